"""What matters for each task inside the model, by taking one thing away at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from benchmarks.world.judging import right
from benchmarks.world.language import PAD, Language
from benchmarks.world.prompts import Prompt
from benchmarks.world.running import answer_logits, changed, mlps, questions
from circuits.transcoders.teachers import recorded
from circuits.transcoders.trained import Trained


@dataclass(frozen=True)
class Inside:
    """One task.

    clean: share answered right.
    mlps: share still right with the MLP's output set to its mean, by layer.
    heads: share still right with the head's output set to its mean, by (layer, head).
    features: mean loss of the answer's log probability, nats, with the feature set to zero everywhere,
        by `layer/feature`; the strongest ones of those active on many prompts.
    """

    clean: float
    mlps: tuple[float, ...]
    heads: dict[str, float]
    features: dict[str, float]


@torch.no_grad()
def look_inside(
    model: LlamaForCausalLM,
    transcoders: Trained,
    language: Language,
    parts: Mapping[str, Sequence[Prompt]],
    *,
    most: int = 100,
    shown: int = 8,
) -> dict[str, Inside]:
    """Every task; means are taken over all of these prompts together, position 0 left as it is."""
    parts = {name: part[:: max(1, len(part) // most)][:most] for name, part in parts.items()}
    everything = [prompt for part in parts.values() for prompt in part]
    mlp_means, head_means = _means(model, language, everything)
    found = {}
    for name, prompts in parts.items():

        def share() -> float:
            return float(right(model, language, prompts).mean())  # noqa: B023  (called at once)

        without_mlp = []
        for layer, mean in enumerate(mlp_means):
            with changed(model, _set_to(layer, mean)):
                without_mlp.append(share())
        heads = {}
        for layer, mean in enumerate(head_means):
            for head in range(model.config.num_attention_heads):
                with _without_head(model, layer, head, mean):
                    heads[f"{layer}.{head}"] = share()
        features = _features(model, transcoders, language, prompts[:40], shown)
        found[name] = Inside(share(), tuple(without_mlp), heads, features)
    return found


def _means(model: LlamaForCausalLM, language: Language, prompts: Sequence[Prompt]) -> tuple[list[Tensor], list[Tensor]]:
    """The mean output of every MLP and of every layer's heads, over all words."""
    tokens, _ = questions(language, prompts)
    real = tokens != PAD
    real[:, 0] = False
    heads: list[Tensor] = []
    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: heads.append(args[0][real].mean(0)))
        for layer in model.model.layers
    ]
    with recorded(mlps(model)) as (_, outputs):
        model(input_ids=tokens)
        means = [y[real].mean(0) for y in outputs]
    for handle in handles:
        handle.remove()
    return means, heads


def _set_to(layer: int, mean: Tensor) -> Callable[[int, Tensor, Tensor], Tensor]:
    def change(at: int, _: Tensor, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1], mean.expand_as(output[:, 1:])], dim=1) if at == layer else output

    return change


@contextmanager
def _without_head(model: LlamaForCausalLM, layer: int, head: int, mean: Tensor) -> Iterator[None]:
    width = mean.shape[0] // model.config.num_attention_heads
    mine = slice(head * width, (head + 1) * width)

    def hook(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        z = args[0].clone()
        z[:, 1:, mine] = mean[mine]
        return (z,)

    handle = model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _features(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: Sequence[Prompt], shown: int
) -> dict[str, float]:
    """Features active on a fifth of the prompts or more, each taken away alone in the real model."""
    tokens, last = questions(language, prompts)
    answers = torch.tensor([language.index[prompt.answers[0]] for prompt in prompts])
    rows = torch.arange(len(tokens))
    real = tokens != PAD
    real[:, 0] = False
    with recorded(mlps(model)) as (x, _):
        clean = answer_logits(model, tokens, last).log_softmax(-1)[rows, answers]
        fires = [(transcoders.encode(x[k], k) * real[..., None] > 0).any(1).float().mean(0) for k in range(len(x))]
    lost = {}
    for layer, often in enumerate(fires):
        for feature in (often >= 0.2).nonzero()[:, 0].tolist():
            with changed(model, _without_feature(transcoders, layer, feature)):
                now = answer_logits(model, tokens, last).log_softmax(-1)[rows, answers]
            lost[f"{layer}/{feature}"] = float((clean - now).mean())
    return dict(sorted(lost.items(), key=lambda item: -item[1])[:shown])


def _without_feature(transcoders: Trained, layer: int, feature: int) -> Callable[[int, Tensor, Tensor], Tensor]:
    """What the feature writes is taken from the outputs of all layers it writes to."""
    taken: list[Tensor] = []

    def change(at: int, x: Tensor, output: Tensor) -> Tensor:
        if at == layer:
            taken[:] = [transcoders.encode(x, layer)[..., feature, None]]
        slot = at - layer
        if slot < 0 or slot >= transcoders.decoder[layer].shape[1]:
            return output
        write = taken[0] * transcoders.decoder[layer][feature, slot]
        return torch.cat([output[:, :1], (output - write)[:, 1:]], dim=1)

    return change


@torch.no_grad()
def shared_meaning(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: Sequence[Prompt], *, back: int = 0
) -> list[tuple[float, float]]:
    """Overlap (Jaccard) of the features active on the same question in two languages, `back` words before its last.

    By layer: for the same concept, and for different concepts, each over pairs in two languages.
    """
    asked = [p for p in prompts if p.words[0] in ("the", "le", "lo") and len(p.words) == 5]
    speech = {"the": 0, "le": 1, "lo": 2}
    tokens, last = questions(language, asked)
    with recorded(mlps(model)) as (x, _):
        model(input_ids=tokens)
        rows = torch.arange(len(tokens))
        active = [(transcoders.encode(x[k][rows, last - back], k) > 0).float() for k in range(transcoders.layers)]
    tongue = torch.tensor([speech[p.words[0]] for p in asked])
    concepts = sorted({p.concept for p in asked})
    concept = torch.tensor([concepts.index(p.concept) for p in asked])
    unlike = tongue[:, None] != tongue
    same = unlike & (concept[:, None] == concept)
    found = []
    for fires in active:
        both = fires @ fires.T
        either = fires.sum(1)[:, None] + fires.sum(1) - both
        overlap = both / either.clamp(min=1)
        found.append((float(overlap[same].mean()), float(overlap[unlike & ~same].mean())))
    return found
