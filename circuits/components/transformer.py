"""A transformer as plain tensors: every component's reading and writing in the open, with gradients.

`Model.run` is the real model behind hooks, one input for all heads of a layer. Here each head's queries, keys and
values are their own, also where the model shares keys among heads, so that each may be given an input of its own. The
two are held to each other in tests, and on the first prompts of whoever asks: see `opening.check_faithful`.

Layout: stream [batch pos d_model]; queries, keys, values and mixed values [batch head pos d_head].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_field
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.components.layers import Layer
from circuits.components.norms import LiveNorm, normalise

Put = Tensor | Callable[[Tensor], Tensor]
Replaced = Mapping[tuple[str, int], Put]
NOTHING: Replaced = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Run:
    """What passed through on some prompts. One entry per layer, those before the first layer of the run left out.

    before: the stream that attention reads. query, key, value, mixed: [batch head pos d_head].
    attention: the sum that the heads wrote, before any norm on it. mlp_input: the stream the MLP reads, apart from the
    stream that goes on. mlp: what it adds. after: the stream at the end. [batch pos d_model]
    neurons: of each MLP, where they were asked for. [batch pos neuron]
    features, errors: then too, where the MLP has features, else empty. [batch pos feature], [batch pos d_model]
    """

    before: list[Tensor]
    query: list[Tensor]
    key: list[Tensor]
    value: list[Tensor]
    mixed: list[Tensor]
    attention: list[Tensor]
    mlp_input: list[Tensor]
    mlp: list[Tensor]
    after: Tensor
    neurons: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    errors: list[Tensor] = field(default_factory=list)

    def since(self, first: int) -> Run:
        """The positions from `first` on of all but keys and values, which they still see from before."""
        by_head = {name: [each[:, :, first:] for each in getattr(self, name)] for name in ("query", "mixed")}
        names = ("before", "attention", "mlp_input", "mlp", "neurons")
        streams = {name: [each[:, first:] for each in getattr(self, name)] for name in names}
        return Run(**by_head, **streams, key=self.key, value=self.value, after=self.after[:, first:])

    def written(self) -> Run:
        """What components wrote, and the stream where they began; the rest is let go."""
        return Run(self.before[:1], [], [], [], self.mixed, self.attention, [], self.mlp, self.after)

    def detached(self) -> Run:
        """The same numbers, off autograd's tape."""
        columns = {name: value for name, value in vars(self).items() if name != "after"}
        return Run(
            **{name: [each.detach() for each in column] for name, column in columns.items()}, after=self.after.detach()
        )


@dataclass(frozen=True, eq=False)
class Transformer:
    """A decoder, or with layers that are not causal any transformer of one stack.

    W_E [vocabulary d_model], W_pos [context d_model]; W_U [d_model vocabulary out].
    parallel: attention and MLP of a layer read the same stream.
    cap: soft cap of the logits, which only probabilities pass.
    """

    name: str
    layers: list[Layer]
    W_E: Tensor
    embedding_scale: float
    W_pos: Tensor | None
    W_U: Tensor
    b_U: Tensor | None
    final_norm: LiveNorm | None
    parallel: bool
    cap: float | None = None

    @property
    def heads(self) -> int:
        return len(self.layers[0].W_O)

    def embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Token embeddings, without positions."""
        return self.W_E[tokens] * self.embedding_scale

    def run(
        self, embedding: Float[Tensor, "batch pos d_model"], *, neurons: bool = False, replace: Replaced = NOTHING
    ) -> Run:
        """A whole run on token embeddings. neurons: these are kept as well, and features with what they miss.

        replace: what takes the place of a column of `Run` at a layer, or a function of what is there: of "query",
        "key", "value", "mixed", "neurons", "features", "errors" and "mlp".
        """
        return self.go_on(self.begin(embedding), 0, neurons=neurons, replace=replace)

    def begin(self, embedding: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """The stream before the first layer."""
        return embedding if self.W_pos is None else embedding + self.W_pos[: embedding.shape[1]]

    def go_on(
        self,
        stream: Float[Tensor, "batch pos d_model"],
        layer: int,
        *,
        keep: bool = True,
        neurons: bool = False,
        replace: Replaced = NOTHING,
        past: Run | None = None,
        tail: int | None = None,
    ) -> Run:
        """The run from the stream before a layer to the end. keep=False: of what passed only the end is kept.

        past: a run of all positions, where the stream is that of the last ones only: what they see of the ones before.
            Of several streams for each pair of the run those of all pairs stand side by side.
        tail: how many last positions come out at the end; the last layer need not run for others.
        """
        found = Run([], [], [], [], [], [], [], [], stream)
        for at, each in enumerate(self.layers[layer:], start=layer):
            x = normalise(each.norm, stream)
            key = _put(replace, "key", at, each.key(x))
            value = _put(replace, "value", at, each.value(x))
            if past is not None:
                key, value = _after(past.key[at], key), _after(past.value[at], value)
            if tail is not None and at == len(self.layers) - 1:
                stream, x = stream[:, -tail:], x[:, -tail:]
            query = _put(replace, "query", at, each.query(x))
            mixed = _put(replace, "mixed", at, each.attend(query, key, value))
            attention = each.write(mixed)
            middle = stream + normalise(each.post_norm, attention)
            read = (stream if self.parallel else middle).clone()  # a tensor of its own: its gradient is the MLP's alone
            active = _put(replace, "neurons", at, each.neurons(read))
            mlp, split = _write(each, at, read, active, replace, apart=keep and neurons)
            mlp = _put(replace, "mlp", at, mlp)
            if keep:
                passed = (stream, query, key, value, mixed, attention, read, mlp)
                kept = (found.before, found.query, found.key, found.value)
                kept += (found.mixed, found.attention, found.mlp_input, found.mlp)
                for column, tensor in zip(kept, passed, strict=True):
                    column.append(tensor)
            if keep and neurons:
                found.neurons.append(active)
                found.features.append(split[0])
                found.errors.append(split[1])
            stream = middle + mlp
        return replace_field(found, after=stream if tail is None else stream[:, -tail:])

    def go_on_beside(
        self, run: Run, layer: int, added: Float[Tensor, "change batch pos d_model"], *, tail: int | None = None
    ) -> Float[Tensor, "change batch end d_model"]:
        """The streams at the end of a run when a layer's attention adds so much more; for many changes at once.

        run: whole, or of the last positions: see `Run.since`. tail: see `go_on`.
        """
        each, mlp = self.layers[layer], run.mlp[layer]
        middle = run.before[layer] + normalise(each.post_norm, run.attention[layer]) + added
        if tail is not None and layer == len(self.layers) - 1:
            middle, mlp = middle[:, :, -tail:], mlp[:, -tail:]
        middle = middle.flatten(0, 1)
        stream = middle + (mlp.repeat(len(added), 1, 1) if self.parallel else each.mlp(middle))
        return self.go_on(stream, layer + 1, keep=False, past=run, tail=tail).after.unflatten(0, added.shape[:2])

    def unembed(self, stream: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        """Logits, before any soft cap."""
        logits = normalise(self.final_norm, stream) @ self.W_U
        return logits if self.b_U is None else logits + self.b_U

    def log_probabilities(self, logits: Float[Tensor, "... vocab"]) -> Float[Tensor, "... vocab"]:
        """What it would say, after its soft cap, in nats."""
        return (self.cap * torch.tanh(logits / self.cap) if self.cap else logits).log_softmax(-1)


def _after(past: Float[Tensor, "pair head pos d_head"], now: Float[Tensor, "batch head last d_head"]) -> Tensor:
    """Keys or values of all positions: the last ones as they are now, before them those of a run."""
    before = past[:, :, : past.shape[2] - now.shape[2]]
    return torch.cat((before.repeat(len(now) // len(past), 1, 1, 1), now), 2) if before.shape[2] else now


def _put(replace: Replaced, name: str, layer: int, tensor: Tensor) -> Tensor:
    """What takes a tensor's place; the tensor itself where nothing does."""
    found = replace.get((name, layer), tensor)
    return found if isinstance(found, Tensor) else found(tensor)


def _write(
    layer: Layer, at: int, read: Tensor, neurons: Tensor, replace: Replaced, *, apart: bool
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What an MLP adds; and its features' activations with what they miss, where it has some and they are asked for."""
    if layer.features is None or not (apart or any((name, at) in replace for name in ("features", "errors"))):
        nothing = neurons.new_zeros(*neurons.shape[:2], 0)
        return layer.write_mlp(neurons), (nothing, nothing)
    features, error = layer.split(layer.features, read, neurons)
    features, error = _put(replace, "features", at, features), _put(replace, "errors", at, error)
    return layer.write_units(neurons, features, error), (features, error)
