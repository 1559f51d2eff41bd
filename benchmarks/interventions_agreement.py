"""Whether our interventions are circuit-tracer's: `python -m benchmarks.interventions_agreement [word ...]`.

Its `feature_intervention` sets features to values: active ones to minus twice, none and three times themselves, and a
silent one awake. What its options are called here is in WAYS. Compared are the logits, over the largest of them, and
the activations of all features, over the largest; and while it generates, every token and the logits before it.
Results go to benchmarks/results/interventions_agreement.md; cases that are not run again keep what they had.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.case_tables import Rows, run_cases, table_of
from benchmarks.peers.cases import Case, Made, make
from benchmarks.peers.hooked_models import without_float32
from benchmarks.peers.jobs import Peer, write_attribution
from circuits.changes import Intervention
from circuits.interventions import read_under
from circuits.steering import say_on
from circuits.tracing import Trace, trace

RESULT = Path(__file__).parent / "results/interventions_agreement.md"
SAME = {"float64": 1e-10, "float32": 1e-4}  # of the largest
SMALL = {"width": 64, "units": 512, "tokens": 8}
CASES = [
    *(
        Case(family, **SMALL, kind=kind)
        for family in ("llama", "gpt2")
        for kind in ("per-layer", "skip", "cross-layer")
    ),
    *(Case(family, **SMALL) for family in ("gemma2", "gemma3", "qwen3", "gpt_neox")),
    Case("llama", **SMALL, reads="residual_mid"),
    Case("gemma2", **SMALL, writes="mlp_raw"),
    Case("world"),
    Case("world", kind="cross-layer"),
]
SOME = range(1, 3)
GENERATED, FROM = 4, 3  # tokens, and the position from which features are set then

# A way to intervene: its options, and ours for a model of so many layers.
WAYS: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "all_layers": (
        {"constrained_layers": "all"},
        lambda layers: {"window": range(layers), "attention": "frozen", "norms": "frozen"},
    ),
    "some_layers": (
        {"constrained_layers": [SOME.start, SOME.stop]},
        lambda _: {"window": SOME, "attention": "frozen"},
    ),
    "no_layers": (
        {"constrained_layers": None},
        lambda layers: {"window": range(layers), "mlps": "live", "attention": "frozen"},
    ),
    "live": (
        {"constrained_layers": None, "freeze_attention": False},
        lambda layers: {"window": range(layers), "mlps": "live"},
    ),
}


@dataclass(frozen=True)
class Agreement:
    """How far the logits of each way are apart, and what else: see the first lines of this file.

    before: pre-activations, which it gives with `apply_activation_function=False`. activations: the most of any way.
    said: tokens generated otherwise, attention frozen over the prompt; generated: the logits before them.
    """

    case: str
    dtype: str
    all_layers: float
    some_layers: float
    no_layers: float
    live: float
    activations: float
    before: float
    said: int
    generated: float

    @property
    def holds(self) -> bool:
        apart = [getattr(self, field.name) for field in fields(self)[2:]]
        return self.said == 0 and max(apart) <= SAME[self.dtype]


def compare(case: Case, dtype: str) -> Agreement:
    """One case, in every way, by both. Generating with attention live is left out: given tokens, its 0.5.0 fails there,
    since it counts a batch's prompts for positions."""
    made = make(case, dtype)
    folder = write_attribution(made.folder, made.dictionary, made.tokens, dtype)
    found: dict[str, float] = {"activations": 0.0}
    with without_float32() if dtype == "float64" else nullcontext(), Peer(folder) as peer:
        run = trace(made.model, made.dictionary, made.tokens)
        for way, (theirs, ours) in WAYS.items():
            options = ours(made.model.layers)
            chosen = _choose(made, run, SOME if way == "some_layers" else range(made.model.layers))
            its_options = {name: _layers(made, option) for name, option in theirs.items()}
            peers = peer.intervene(_as_its(chosen), folder / "intervened.npz", **its_options)
            sites = [(made.dictionary.reads, layer) for layer in range(made.model.layers)]
            seen = read_under(made.model, made.dictionary, run, [chosen], [("logits", 0), *sites], **options)
            found[way] = _apart(_capped(made, seen[("logits", 0)][0]), peers["logits"])
            inputs = [seen[site][0] for site in sites]
            acts = torch.stack([made.dictionary.activations(layer, x) for layer, x in enumerate(inputs)])
            found["activations"] = max(found["activations"], _apart(acts[:, 1:], peers["activations"][:, 1:]))
        peers = peer.intervene(
            _as_its(chosen), folder / "intervened.npz", freeze_attention=False, apply_activation_function=False
        )
        before = torch.stack(
            [x @ made.dictionary.W_enc[at].T + made.dictionary.b_enc[at] for at, x in enumerate(inputs)]
        )
        found["before"] = _apart(before[:, 1:], peers["activations"][:, 1:])
        found |= _generate(made, run, peer, folder)
    return Agreement(case=case.name, dtype=dtype, **found)


def _generate(made: Made, run: Trace, peer: Peer, folder: Path) -> dict[str, float]:
    """Two features set from a position on, and in everything that is said."""
    first = [at for at in range(len(run.layer)) if int(run.position[at]) == FROM]
    chosen = [
        Intervention(int(run.layer[at]), FROM, int(run.unit[at]), value=3 * float(run.activation[at]), onward=True)
        for at in (first[len(first) // 4], first[-1])
    ]
    its = [(each.layer, [FROM, None], each.unit, each.value) for each in chosen]
    peers = peer.intervene(its, folder / "generated.npz", generate=GENERATED)
    options = {"attention": "frozen", "mlps": "live", "window": range(made.model.layers)}
    logits = torch.stack(list(islice(say_on(made.model, made.dictionary, run, chosen, **options), GENERATED)))
    other = int((logits.argmax(-1).numpy() != peers["said"][len(run.tokens) :]).sum())
    apart = _apart(_capped(made, logits), peers["logits"][:GENERATED])
    return {"said": other, "generated": apart}


def _choose(made: Made, run: Trace, layers: range) -> list[Intervention]:
    """Three active features of these layers, and a silent one of the first of them."""
    inside = [at for at in range(len(run.layer)) if int(run.layer[at]) in layers and int(run.position[at]) > 0]
    picked = [inside[int(share * (len(inside) - 1))] for share in (0.1, 0.5, 0.9)]
    found = [
        Intervention(int(run.layer[at]), int(run.position[at]), int(run.unit[at]), value=by * float(run.activation[at]))
        for at, by in zip(picked, (-2.0, 0.0, 3.0), strict=True)
    ]
    awake = {int(unit) for unit in run.unit[(run.layer == layers[0]) & (run.position == 2)]}
    silent = next(unit for unit in range(made.dictionary.units) if unit not in awake)
    return [*found, Intervention(layers[0], 2, silent, value=float(run.activation.median()))]


def _as_its(chosen: Sequence[Intervention]) -> list[tuple]:
    return [(each.layer, each.position, each.unit, each.value) for each in chosen]


def _layers(made: Made, option: Any) -> Any:
    return [0, made.model.layers] if option == "all" else option


def _capped(made: Made, logits: torch.Tensor) -> torch.Tensor:
    cap = getattr(made.model.network.config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def _apart(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())


def report(rows: Rows) -> str:
    """The results as a table, in the order of the cases, and what each way is called here."""
    lines = ["# Interventions equal to circuit-tracer's", ""]
    lines += ["What `python -m benchmarks.interventions_agreement` found, case by case; its docstrings say what the"]
    lines += ["columns are. All are to be below 1e-4 in float32 and 1e-10 in float64, and no token said otherwise.", ""]
    lines += table_of(Agreement, CASES, rows)
    lines += ["", "Its options, and ours for the same in a model of 4 layers:", ""]
    lines += [f"- {way}: `{theirs}` is `{ours(4)}`" for way, (theirs, ours) in WAYS.items()]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> int:
    """Print and store a line for each case; exit code 1 if any is apart. Arguments: words that its name must hold."""
    return run_cases(Agreement, CASES, compare, RESULT, report, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
