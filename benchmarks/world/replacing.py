"""What is lost when transcoders stand in for every MLP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.world.judging import right
from benchmarks.world.language import PAD, Language
from benchmarks.world.prompts import Prompt
from benchmarks.world.running import answer_logits, mlps, questions
from circuits.transcoders.teachers import recorded, replaced
from circuits.transcoders.trained import Trained

ONE_ANSWER = ("one-hop", "two-hop city", "two-hop combo", "antonyms", "addition", "agreement", "indirect", "induction")
"""Parts whose questions have one right answer: `greater` has many."""


@dataclass(frozen=True)
class Loss:
    """Of one transcoder set, on the held-out prompts.

    active: mean number of active features on a token, by layer.
    unexplained: share of the variance of an MLP's output that is not reconstructed, by layer.
    alive: share of features that fire on at least one token, of these prompts or of the trained ones.
    agreement: share of questions with the same first answer in the model and with every MLP replaced, by part.
    divergence: mean KL(model ‖ replaced) in nats at the answer, by part.
    before, after: share answered right by the model, and with every MLP replaced, by part.
    """

    active: tuple[float, ...]
    unexplained: tuple[float, ...]
    alive: float
    agreement: dict[str, float]
    divergence: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]

    @property
    def agreement_one_answer(self) -> float:
        """The lowest bar: the mean over parts whose questions have one right answer."""
        found = [self.agreement[name] for name in ONE_ANSWER if name in self.agreement]
        return sum(found) / len(found)

    @property
    def mean_divergence(self) -> float:
        """The mean over parts, nats."""
        return sum(self.divergence.values()) / len(self.divergence)


@torch.no_grad()
def loss_of(
    model: LlamaForCausalLM,
    transcoders: Trained,
    language: Language,
    parts: Mapping[str, Sequence[Prompt]],
    trained: Sequence[Prompt] = (),
) -> Loss:
    """Measure on these prompts; position 0 is left out, as in training.

    trained: more prompts, on which a feature may also show that it is alive.
    """
    layers = transcoders.layers
    counts = [torch.zeros(len(threshold)) for threshold in transcoders.threshold]
    more = [torch.zeros_like(count) for count in counts]
    outputs: list[list[Tensor]] = [[] for _ in range(layers)]
    errors: list[list[Tensor]] = [[] for _ in range(layers)]
    agreement, divergence, before, after = {}, {}, {}, {}
    for name, prompts in parts.items():
        tokens, last = questions(language, prompts)
        real = tokens != PAD
        real[:, 0] = False
        with recorded(mlps(model)) as (x, y):
            logits = answer_logits(model, tokens, last)
            active = [transcoders.encode(x[layer], layer) for layer in range(layers)]
            for layer in range(layers):
                counts[layer] += (active[layer][real] > 0).sum(0)
                outputs[layer].append(y[layer][real])
                errors[layer].append((transcoders.decode(active, layer) - y[layer])[real].square().sum(-1))
        before[name] = float(right(model, language, prompts).mean())
        with replaced(mlps(model), transcoders):
            changed_logits = answer_logits(model, tokens, last)
            after[name] = float(right(model, language, prompts).mean())
        agreement[name] = float((logits.argmax(-1) == changed_logits.argmax(-1)).float().mean())
        p, q = logits.log_softmax(-1), changed_logits.log_softmax(-1)
        divergence[name] = float((p.exp() * (p - q)).sum(-1).mean())
    for start in range(0, len(trained), 500):
        tokens, _ = questions(language, trained[start : start + 500])
        real = tokens != PAD
        real[:, 0] = False
        with recorded(mlps(model)) as (x, _):
            model(input_ids=tokens)
            for layer in range(layers):
                more[layer] += (transcoders.encode(x[layer], layer)[real] > 0).sum(0)
    places = sum(len(part) for part in outputs[0])
    return Loss(
        tuple(float(count.sum()) / places for count in counts),
        tuple(
            float(torch.cat(errors[k]).mean() / torch.cat(outputs[k]).var(0, unbiased=False).sum())
            for k in range(layers)
        ),
        float((torch.cat(counts) + torch.cat(more)).gt(0).float().mean()),
        agreement,
        divergence,
        before,
        after,
    )
