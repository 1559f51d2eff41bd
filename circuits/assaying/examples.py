"""The graph's features on other wordings of the question: does the circuit do there what the model does?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from circuits.ablation import ablate_sets
from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.hypotheses import find_equivalence, find_independence
from circuits.tracing import trace
from graphs.assays import Examples


@torch.no_grad()
def test_examples(bench: Bench) -> list[Examples]:
    """Keep only the graph's features, then ablate only them, on every wording that is as long as the prompt.

    Features keep their layers and positions, which mean something else in a prompt of another length. What is measured
    is the same answer's lead.
    """
    tokens = bench.run.tokens
    alike = [list(each) for each in bench.paraphrases if len(each) == len(tokens)]
    few = f"{len(alike)} wordings have {len(tokens)} tokens as the prompt has, {thresholds.EXAMPLES} are wanted"
    ours = bench.places(bench.units)
    count = bench.count("the graph's features in other wordings", len(alike))
    found: list[list[float]] = []
    for prompt in alike:
        run = trace(bench.model, bench.transcoders, prompt)
        scores = [float(bench.metric.kept(run.logits))]
        for keep in (True, False):
            runs = ablate_sets(bench.model, bench.transcoders, run, [ours], keep=keep, fill=bench.means)
            scores += [float(bench.metric.kept(each)[0]) for each in runs]
        found.append(scores)
        count(1)
    model, circuit, without = zip(*found, strict=True) if found else ((), (), ())
    said = [" ".join(text.strip() for text in bench.model.texts(prompt)) for prompt in alike]
    logits = bench.metric.site == ("logits", 0)
    untested = "" if logits else "a feature's value is no answer to compare"
    return [
        Examples(
            said,
            list(model),
            list(circuit),
            list(without),
            untested or ("" if len(alike) >= thresholds.EXAMPLES else few),
        )
    ]


def summarise_examples(records: Sequence[Examples], seed: int) -> dict[str, float]:
    """Over the examples. higher: the share of them where the circuit scores higher than the model; p_differs and
    p_equivalent: see `Equivalence`. hsic, p_independent: of what is left without the circuit and the model's score.
    """
    figures: dict[str, float] = {}
    for each in records:
        if not each.untested:
            model, circuit, without = (np.array(column) for column in (each.model, each.circuit, each.without))
            same = find_equivalence(circuit, model, margin=thresholds.MARGIN)
            figures |= {"higher": same.share, "p_differs": same.p_differs, "p_equivalent": same.p_equivalent}
            figures["hsic"], figures["p_independent"] = find_independence(without, model, seed=seed)
    return figures
