"""EAP-IG and TransformerLens's patching, driven through files: reads a job, then does what each line of input asks for.

Runs in an environment of its own and imports nothing of ours. Lines are JSON objects with `do`:

    score      every edge by one of its methods; with `save`, to that file
    evaluate   its circuit of the `edges` strongest among the scores made last, and each pair's metric for the clean
               run, the corrupted one and the circuit, to `save`
    sweep      TransformerLens's activation patching, head by layer; with `save`, to that file

and each is answered by one line: CPU and wall seconds, and how far memory rose above what the process held before.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eap import attribute as attribution
from eap import evaluate as evaluation
from eap.graph import Graph
from safetensors.torch import load_file
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.patching import get_act_patch_attn_head_out_all_pos

Pair = tuple[Tensor, Tensor, Tensor]


def load_model(folder: Path, settings: dict[str, Any], dtype: torch.dtype) -> HookedTransformer:
    """The job's model, from its settings and weights."""
    model = HookedTransformer(HookedTransformerConfig(**settings, dtype=dtype, device="cpu"))
    missing, strange = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    lacking = [name for name in missing if not any(word in name for word in ("mask", "IGNORE", "rotary"))]
    if strange or lacking:
        raise ValueError(f"weights do not fit: missing {lacking[:5]}, strange {strange[:5]}")
    return model


def split_inputs(model: HookedTransformer, wanted: bool) -> None:
    """What EAP-IG asks of a model: a result for each head, an input for each reader."""
    model.set_use_attn_result(wanted)
    model.set_use_split_qkv_input(wanted)
    model.set_use_hook_mlp_in(wanted)
    model.set_ungroup_grouped_query_attention(wanted and model.cfg.n_key_value_heads is not None)


def on_the_cpu() -> None:
    """Its scores are made on a device that is written down in it, and its prompts are text: here they are token ids."""
    zeros = torch.zeros

    def zeros_here(*shape: Any, device: Any = None, **options: Any) -> Tensor:
        return zeros(*shape, device="cpu" if device == "cuda" else device, **options)

    def tokens_as_they_are(model: HookedTransformer, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        mask = torch.ones_like(tokens)
        return tokens, mask, mask.sum(1), tokens.shape[1]

    torch.zeros = zeros_here
    for module in (attribution, evaluation):
        module.tokenize_plus = tokens_as_they_are


def metrics(job: dict[str, Any]) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The loss of each pair, minus the metric, from logits where its answer is read."""
    right, wrong = (torch.tensor(job[name])[:, None] for name in ("right", "wrong"))

    def difference(values: Tensor, rows: Tensor) -> Tensor:
        return -(values.gather(1, right[rows]) - values.gather(1, wrong[rows]))[:, 0]

    return {
        "logit-difference": difference,
        "probability-difference": lambda logits, rows: difference(logits.softmax(-1), rows),
    }


class Job:
    """A model and pairs of prompts."""

    def __init__(self, folder: Path) -> None:
        self.job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        self.model = load_model(folder, self.job["model"], getattr(torch, self.job["dtype"]))
        self.graph = Graph.from_model(self.model)
        self.metrics = metrics(self.job)
        self.position = torch.tensor(self.job["position"])

    def pairs(self, size: int) -> list[Pair]:
        """Batches, each of one length; what stands for the answers is the pairs' numbers."""
        found, done = [], 0
        for group in self.job["prompts"]:
            clean, corrupted = (torch.tensor(group[name]) for name in ("clean", "corrupted"))
            rows = torch.arange(done, done + len(clean))
            done += len(clean)
            found += zip(*(column.split(size) for column in (clean, corrupted, rows)), strict=True)
        return found

    def loss(self, metric: str, logits: Tensor, clean: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        read = logits[torch.arange(len(rows)), self.position[rows]]
        return self.metrics[metric](read, rows)

    def score(self, order: dict[str, Any]) -> np.ndarray:
        """`later`: the points of integrated gradients one step nearer to the clean prompt than it has them.

        `asking`: embeddings that it puts in place ask for gradients, which it forgets.
        """
        self.model.reset_hooks(including_permanent=True)
        if order["asking"]:
            self.model.get_submodule("blocks.0.hook_resid_pre").add_perma_hook(lambda x, hook: _ask(x))
        attribution.range = partial(_range, later=order["later"])

        def total(*given: Tensor) -> Tensor:
            return self.loss(order["metric"], *given).sum()

        self.model.requires_grad_(not order["frozen"])
        self.model.zero_grad()
        attribution.attribute(
            self.model,
            self.graph,
            self.pairs(order["batch"]),
            total,
            order["method"],
            ig_steps=order["steps"],
            quiet=True,
        )
        return self.graph.scores.numpy()

    def evaluate(self, order: dict[str, Any]) -> dict[str, np.ndarray]:
        loss = partial(self.loss, order["metric"])
        pairs = self.pairs(order["batch"])
        self.graph.apply_topn(order["edges"], absolute=True, prune=True)
        given = {"quiet": True}
        return {
            "chosen": self.graph.in_graph.numpy(),
            "clean": -evaluation.evaluate_baseline(self.model, pairs, loss, **given).numpy(),
            "corrupted": -evaluation.evaluate_baseline(self.model, pairs, loss, run_corrupted=True, **given).numpy(),
            "kept": -evaluation.evaluate_graph(self.model, self.graph, pairs, loss, skip_clean=False, **given).numpy(),
        }

    @torch.no_grad()
    def sweep(self, order: dict[str, Any]) -> np.ndarray:
        """Denoising: the mean metric of the corrupted run with each head's output from the clean one."""
        (clean, corrupted, rows), *_ = self.pairs(len(self.position))
        _, cache = self.model.run_with_cache(clean, names_filter=lambda name: name.endswith("hook_z"))

        def gain(logits: Tensor) -> Tensor:
            return -self.loss(order["metric"], logits, logits, rows, rows).mean()

        return get_act_patch_attn_head_out_all_pos(self.model, corrupted, cache, gain).numpy()


def _ask(x: Tensor) -> Tensor:
    return x if x.requires_grad or not torch.is_grad_enabled() else x.clone().requires_grad_()


def _range(*ends: int, later: int) -> range:
    return range(*ends) if len(ends) == 1 else range(*(end + later for end in ends))


def memory(name: str) -> int:
    """Bytes that the process holds (VmRSS) or has held at most since it was last asked to forget (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    torch.set_num_threads(1)
    job = Job(Path(sys.argv[1]))
    on_the_cpu()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        split_inputs(job.model, order["do"] != "sweep")
        # What was freed goes back to the system before it forgets the most that was held, or it would count.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = memory("VmRSS")
        wall, cpu = time.perf_counter(), time.process_time()
        found = {"score": job.score, "evaluate": job.evaluate, "sweep": job.sweep}[order["do"]](order)
        answer = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "peak": memory("VmHWM") - before,
        }
        if order["save"]:
            np.savez(order["save"], **(found if isinstance(found, dict) else {"found": found}))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
