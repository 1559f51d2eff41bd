"""What happened on one prompt: the frozen model, the active units, what they miss, and what is constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attending import OFFSET, Attended, attend
from circuits.errors import BadOption, UnfaithfulModel
from circuits.frozen import Frozen, freeze, sites_to_freeze
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from circuits.transcoders.with_attention import attention_of

# Largest difference between frozen and real logits, over the largest real logit. float32 runs give about 1e-6; a hook
# that reads the wrong tensor gives 1e-2 or more.
FAITHFUL = 1e-4


@dataclass(frozen=True, eq=False)
class Constant:
    """Something added to the residual stream that no token, unit or error carries: a bias, or a sink.

    name: which bias. layer: -1 for what stands beside the token embedding. place: where it joins: "embedding",
    "attention" or "mlp" of its layer. vectors: what is added. [pos d_model] position: of a sink, else -1.
    """

    name: str
    layer: int
    place: str
    vectors: Float[Tensor, "pos d_model"]
    position: int = -1


@dataclass(frozen=True, eq=False)
class Trace:
    """One prompt, run once and frozen.

    tokens: ids [pos]; texts: what they say. logits: the real model's, before any soft cap. [pos vocab]
    layer, position, unit, activation: the active units, in reading order; those of attention are numbered from
        OFFSET on, and stand before those of their layer's MLP. [active]
    inputs: what the dictionary read, per layer. [pos d_in]
    written: the real MLP outputs at the site where the dictionary writes. [layer pos d_out]
    errors: what the dictionary misses of them, zero where it is exact; None where it is so in all layers.
        [layer pos d_model]
    constants: every bias and sink. residual: the last residual stream. [pos d_model]
    attended: by layer, what stands in for its attention; nothing for a layer that keeps its own.
    """

    tokens: Int[Tensor, "pos"]
    texts: Sequence[str]
    logits: Float[Tensor, "pos vocab"]
    frozen: Frozen
    layer: Int[Tensor, "active"]
    position: Int[Tensor, "active"]
    unit: Int[Tensor, "active"]
    activation: Float[Tensor, "active"]
    inputs: list[Float[Tensor, "pos d_in"]]
    written: Float[Tensor, "layer pos d_out"]
    errors: Float[Tensor, "layer pos d_model"] | None
    constants: list[Constant]
    residual: Float[Tensor, "pos d_model"]
    attended: dict[int, Attended] = field(default_factory=dict)

    def units_at(self, place: str, layer: int) -> slice:
        """The rows of the active units of a layer's "mlp" or "attention"."""
        at = 2 * layer + (place == "mlp")
        return slice(self._starts[at], self._starts[at + 1])

    @cached_property
    def _starts(self) -> list[int]:
        place = 2 * self.layer + (self.unit < OFFSET)
        return torch.searchsorted(place, torch.arange(2 * self.frozen.layers + 1, device=place.device)).tolist()


@torch.no_grad()
def trace(model: Model, dictionary: Dictionary, prompt: str | Sequence[int]) -> Trace:
    """Run the model on a prompt, freeze it, and find the units that are active.

    The frozen model is then run forward by its own weights; it must give the real logits.

    Raises:
        BadPrompt: see `Model.tokenize`. BadOption: no model or no dictionary is given.
        UnfaithfulModel: the frozen model's logits differ from the real ones.
    """
    check_given(model, dictionary)
    tokens = model.tokenize(prompt)
    stands_in = [dictionary.at(layer) for layer in range(model.layers)]
    outputs = [(site, layer) for layer, here in enumerate(stands_in) for site in ("mlp_output", here.writes)]
    attention_set = attention_of(dictionary)
    replaced = () if attention_set is None else attention_set.numbers
    if attention_set is not None:
        outputs += [(site, layer) for layer in replaced for site in ("attention_output", attention_set.writes)]
    read = [*sites_to_freeze(model), *outputs]
    logits, seen = model.run(tokens[None], read=read)
    frozen = freeze(model, seen)
    length = len(tokens)
    everywhere = torch.arange(length, device=tokens.device)

    x = frozen.embedding if frozen.positions is None else frozen.embedding + frozen.positions
    constants = [] if frozen.positions is None else [Constant("position embedding", -1, "embedding", frozen.positions)]
    inputs, acts, errors = [], [], []
    active: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # layer, position, unit and activation of some units
    attended_by: dict[int, Attended] = {}

    def keep(layer: int, activations: Tensor, first: int = 0) -> None:
        position, unit = activations.nonzero(as_tuple=True)
        active.append((torch.full_like(unit, layer), position, unit + first, activations[position, unit]))

    for layer, (attention, here) in enumerate(zip(frozen.attention, stands_in, strict=True)):
        alive = everywhere >= here.silent_positions
        if attention_set is not None and layer in replaced:
            written, outs = (seen[(site, layer)][0] for site in (attention_set.writes, "attention_output"))
            attended_by[layer], activations = attend(frozen, attention_set, layer, x, written, outs)
            attended = attended_by[layer].outputs
            keep(layer, activations, OFFSET)
            constants.append(Constant("attention decoder bias", layer, "attention", attended_by[layer].bias))
        else:
            attended = attention.forward(x)
            for name, vectors in attention.constant.items():
                attended = attended + vectors
                constants.append(Constant(f"{name} bias", layer, "attention", vectors))
        residual = x if frozen.parallel else x + attended
        inputs.append(frozen.mlp_input(residual, layer, here.reads))
        acts.append(dictionary.activations(layer, inputs[layer]) * alive[:, None])
        keep(layer, acts[layer])

        sources = (source for source in range(layer + 1) if layer in dictionary.written_layers(source))
        units = torch.stack([dictionary.decode(source, acts[source], layer) for source in sources]).sum(0)
        for source in range(layer + 1):
            if dictionary.written_layers(source).stop <= layer + 1:
                acts[source] = x.new_empty(0)  # written to the last: millions of zeros need not wait for the end
        skip = dictionary.skip(layer)
        skipped = torch.zeros_like(units) if skip is None else inputs[layer] @ skip.T

        def reached(vectors: Tensor, layer: int = layer, writes: str = here.writes) -> Tensor:
            return frozen.written(vectors, layer, everywhere, writes)

        linear = reached(units + skipped)
        bias = reached(dictionary.bias(layer).expand(length, -1))
        post_norm = frozen.mlp_post_norm[layer]
        if here.writes == "mlp_raw" and post_norm is not None and post_norm.bias is not None:
            bias = bias + post_norm.bias
        out = linear + bias if here.exact else seen[("mlp_output", layer)][0]

        constants.append(Constant("decoder bias", layer, "mlp", bias * alive[:, None]))
        for silent in range(min(here.silent_positions, length)):
            sink = out - reached(skipped)
            constants.append(Constant("sink", layer, "mlp", sink * (everywhere == silent)[:, None], position=silent))
        norm_bias = frozen.mlp_norm[layer].bias
        if skip is not None and norm_bias is not None and here.reads == "mlp_input":
            through = reached((norm_bias @ skip.T).expand(length, -1))
            constants.append(Constant("norm bias through skip", layer, "mlp", through))
        errors.append(torch.zeros_like(out) if here.exact else (out - linear - bias) * alive[:, None])
        x = x + attended + out

    _check_rebuilt(model, frozen, x, logits[0])
    layers, position, unit, activation = (torch.cat(column) for column in zip(*active, strict=True))
    return Trace(
        tokens=tokens,
        texts=model.texts(tokens.tolist()),
        logits=logits[0],
        frozen=replace(frozen, looks={layer: each.looks(frozen, layer) for layer, each in attended_by.items()}),
        layer=layers,
        position=position,
        unit=unit,
        activation=activation,
        inputs=inputs,
        written=torch.stack([seen[(here.writes, layer)][0] for layer, here in enumerate(stands_in)]),
        errors=None if all(here.exact for here in stands_in) else torch.stack(errors),
        constants=[each for each in constants if bool(each.vectors.any())],
        residual=x,
        attended=attended_by,
    )


def _check_rebuilt(
    model: Model, frozen: Frozen, residual: Float[Tensor, "pos d_model"], logits: Float[Tensor, "pos vocab"]
) -> None:
    """Hold the frozen model's logits to the real ones. residual: its stream at the end.

    Raises:
        UnfaithfulModel: they differ.
    """
    rebuilt = frozen.final_norm.apply(residual) @ frozen.unembedding
    if frozen.final_norm.bias is not None:
        rebuilt = rebuilt + frozen.final_norm.bias @ frozen.unembedding
    rebuilt = rebuilt + frozen.unembedding_bias
    real = logits - logits.mean(-1, keepdim=True)
    deviation = float((rebuilt - real).abs().max() / real.abs().max())
    if not deviation <= FAITHFUL:
        raise UnfaithfulModel(
            f"the frozen copy of {model.name} misses its logits by {deviation:.1e} of the largest, {FAITHFUL:.0e} is "
            "allowed: this architecture (or this checkpoint) would be traced wrongly. Please report it."
        )


def check_given(model: object, dictionary: object) -> None:
    """See that a model and a dictionary are what they are called, and not their names.

    Raises:
        BadOption: one of them is something else.
    """
    if not isinstance(model, Model):
        raise BadOption(f"the model must be what `load_model` returns, found {model!r}.")
    if not hasattr(dictionary, "reading"):
        raise BadOption(f"the transcoders must be what `load_transcoders` returns, found {dictionary!r}.")
