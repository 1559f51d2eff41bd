"""A transformer as plain tensors: every component's reading and writing in the open, with gradients.

`Model.run` is the real model behind hooks, one input for all heads of a layer. Here each head's queries, keys and
values are their own, also where the model shares keys among heads, so that each may be given an input of its own. The
two are held to each other in tests, and on the first prompts of whoever asks: see `check_faithful`.

Layout: stream [batch pos d_model]; queries, keys, values and mixed values [batch head pos d_head].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.components.features import Features
from circuits.errors import UnfaithfulModel, UnsupportedModel
from circuits.model import Model
from circuits.transcoders.neurons import ACTIVATIONS
from circuits.weights import Block, Norm

FAITHFUL = {torch.float32: 1e-3, torch.float64: 1e-4}  # of the spread of the logits: norms of the real run in float32
EPSILON = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")
Rotation = Callable[[int], tuple[Tensor, Tensor]]
Put = Tensor | Callable[[Tensor], Tensor]
Replaced = Mapping[tuple[str, int], Put]
NOTHING: Replaced = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class LiveNorm:
    """A norm as the model computes it: its scale follows its input.

    gain, bias [d]; centred: it takes the mean off (a layer norm); epsilon: added to the variance.
    held: to gradients its scale is a constant.
    """

    gain: Tensor
    bias: Tensor | None
    centred: bool
    epsilon: float
    held: bool = False

    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        if self.held:
            centred = x - x.mean(-1, keepdim=True) if self.centred else x
            normalised = self.gain * centred / self.parts(x)[1].detach()
            return normalised if self.bias is None else normalised + self.bias
        if self.centred:
            return torch.nn.functional.layer_norm(x, x.shape[-1:], self.gain, self.bias, self.epsilon)
        return self.gain * (x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt())

    def parts(self, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Float[Tensor, "... 1"]]:
        """What it gives before gain and bias, and the scale it divided by."""
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        scale = (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt()
        return x / scale, scale

    def carry(self, change: Float[Tensor, "... d"], x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """What a small change of the input x becomes: the derivative of the norm at x times the change."""
        normalised, scale = self.parts(x)
        change = change - change.mean(-1, keepdim=True) if self.centred else change
        if not self.held:
            change = change - normalised * (normalised * change).mean(-1, keepdim=True)
        return self.gain * change / scale


@dataclass(frozen=True, eq=False)
class SharedNorm:
    """An RMS norm over the queries, or the keys, of all heads at once: each head's depend on what the others read.

    gain [head d_head]; epsilon: added to the mean square. held: to gradients its scale is a constant. Where heads share
    keys the mean is over every head's copy, so that each may be another.
    """

    gain: Float[Tensor, "head d_head"]
    epsilon: float
    held: bool = False

    def __call__(self, x: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch head pos d_head"]:
        scale = (x.square().mean((1, 3), keepdim=True) + self.epsilon).sqrt()
        return self.gain[:, None] * x / (scale.detach() if self.held else scale)


@dataclass(frozen=True, eq=False)
class Projection:
    """Queries, keys or values of every head. weight [group d_model d_head], bias [group d_head]; group: heads sharing.

    share: how many heads read each group (grouped-query attention).
    """

    weight: Float[Tensor, "group d_model d_head"]
    bias: Tensor | None
    share: int
    flat: Float[Tensor, "d_model width"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flat", self.weight.transpose(0, 1).flatten(1).contiguous())

    def __call__(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch head pos d_head"]:
        """All heads read the same."""
        out = (x @ self.flat).unflatten(-1, (len(self.weight), -1)).transpose(1, 2)
        return self._finish(out)

    def each(self, x: Float[Tensor, "batch head pos d_model"]) -> Float[Tensor, "batch head pos d_head"]:
        """Each head reads its own."""
        weight, bias = self.per_head()
        out = x @ weight
        return out if bias is None else out + bias[:, None]

    def per_head(self) -> tuple[Float[Tensor, "head d_model d_head"], Tensor | None]:
        """Weight and bias of each head, shared ones repeated."""
        bias = self.bias if self.bias is None else self.bias.repeat_interleave(self.share, 0)
        return self.weight.repeat_interleave(self.share, 0) if self.share > 1 else self.weight, bias

    def _finish(self, out: Tensor) -> Tensor:
        if self.bias is not None:
            out = out + self.bias[:, None]
        return out.repeat_interleave(self.share, 1) if self.share > 1 else out


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer. Norms are None where it has none.

    W_O [head d_head d_model]. scale: of the scores. cap: soft cap of the scores. window: how many keys back a query
    sees. rotation: cosines and sines [pos rotated] for a length. function: the MLP's activation f; ratio: f(x) / x.
    product: how a gated MLP multiplies. features: those of a set that the MLP's output may be taken apart into.
    """

    query: Projection
    key: Projection
    value: Projection
    query_norm: LiveNorm | SharedNorm | None
    key_norm: LiveNorm | SharedNorm | None
    W_O: Float[Tensor, "head d_head d_model"]
    b_O: Tensor | None
    scale: float
    cap: float | None
    window: int | None
    rotation: Rotation | None
    causal: bool
    norm: LiveNorm | None
    post_norm: LiveNorm | None
    mlp_norm: LiveNorm | None
    mlp_post_norm: LiveNorm | None
    W_gate: Tensor | None
    W_in: Tensor
    W_out: Tensor
    b_gate: Tensor | None
    b_in: Tensor | None
    b_out: Tensor | None
    function: Callable[[Tensor], Tensor]
    ratio: Callable[[Tensor], Tensor]
    product: Callable[[Tensor, Tensor], Tensor] = torch.mul
    features: Features | None = None

    @property
    def joint(self) -> bool:
        """Whether one head's queries or keys change those of the others, by a norm over all."""
        return isinstance(self.query_norm, SharedNorm) or isinstance(self.key_norm, SharedNorm)

    def attend(
        self,
        query: Float[Tensor, "#batch head query d_head"],
        key: Float[Tensor, "#batch head pos d_head"],
        value: Float[Tensor, "#batch head pos d_head"],
    ) -> Float[Tensor, "batch head query d_head"]:
        """Values mixed by the pattern; any selection of heads unless they are joint, then all.

        Fewer queries than keys are those of the last ones.
        """
        return self.scores(query, key).softmax(-1) @ value

    def scores(
        self, query: Float[Tensor, "#batch head query d_head"], key: Float[Tensor, "#batch head pos d_head"]
    ) -> Float[Tensor, "batch head query pos"]:
        """How much each position looks at each, before the softmax; minus infinity where it does not see it."""
        length = key.shape[-2]
        query = _rotate(normalise(self.query_norm, query), self.rotation, length)
        key = _rotate(normalise(self.key_norm, key), self.rotation, length)
        scores = self.scale * (query @ key.mT)
        if self.cap:
            scores = self.cap * torch.tanh(scores / self.cap)
        if self.causal:
            scores = scores.masked_fill(self._unseen(*scores.shape[-2:], scores.device), -torch.inf)
        return scores

    def write(self, mixed: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch pos d_model"]:
        """The sum of what the heads write, with the bias, before any norm on it."""
        out = mixed.transpose(1, 2).flatten(2) @ self.W_O.flatten(0, 1)
        return out if self.b_O is None else out + self.b_O

    def mlp(self, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds when it reads this stream, its norms included."""
        return self.write_mlp(self.neurons(stream))

    def neurons(self, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos neuron"]:
        """The activations of the MLP's neurons when it reads this stream."""
        x = normalise(self.mlp_norm, stream)
        before = x @ self.W_in if self.b_in is None else x @ self.W_in + self.b_in
        if self.W_gate is None:
            return self.function(before)
        gate = x @ self.W_gate if self.b_gate is None else x @ self.W_gate + self.b_gate
        return self.product(self.function(gate), before)

    def write_mlp(self, neurons: Float[Tensor, "batch pos neuron"]) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds when its neurons are these, the norm on it included."""
        return normalise(self.mlp_post_norm, self.write_unnormed(neurons))

    def split(
        self, features: Features, stream: Float[Tensor, "batch pos d_model"], neurons: Float[Tensor, "batch pos neuron"]
    ) -> tuple[Float[Tensor, "batch pos feature"], Float[Tensor, "batch pos d_model"]]:
        """Activations of features when the MLP reads this stream, and what they miss of what its neurons write."""
        out = self.write_unnormed(neurons) if features.unnormed else self.write_mlp(neurons)
        return features.split(stream, out)

    def write_units(
        self,
        neurons: Float[Tensor, "batch pos neuron"],
        active: Float[Tensor, "batch pos feature"],
        error: Float[Tensor, "batch pos *d_model"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds when its neurons are these, or if it has features, when those are so and miss so much."""
        if self.features is None:
            return self.write_mlp(neurons)
        out = self.features.join(active, error)
        return normalise(self.mlp_post_norm, out) if self.features.unnormed else out

    def write_unnormed(self, neurons: Float[Tensor, "batch pos neuron"]) -> Float[Tensor, "batch pos d_model"]:
        """The same before the norm on it."""
        out = neurons @ self.W_out
        return out if self.b_out is None else out + self.b_out

    def _unseen(self, queries: int, length: int, device: torch.device) -> Tensor:
        at = torch.arange(length, device=device)
        behind = at[length - queries :, None] - at
        return (behind < 0) if self.window is None else (behind < 0) | (behind >= self.window)


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


def normalise(norm: LiveNorm | SharedNorm | None, x: Tensor) -> Tensor:
    """What a norm makes of x; x itself where there is none."""
    return x if norm is None else norm(x)


def bare_layer(
    query: Projection,
    key: Projection,
    value: Projection,
    W_O: Float[Tensor, "head d_head d_model"],
    W_in: Float[Tensor, "d_model neuron"],
    b_in: Tensor,
    W_out: Float[Tensor, "neuron d_model"],
    *,
    scale: float = 1.0,
    causal: bool = True,
    norm: LiveNorm | None = None,
    b_O: Tensor | None = None,
    b_out: Tensor | None = None,
) -> Layer:
    """A layer of plain attention and a rectified MLP, nothing normed but what both read. norm: before each of them."""
    function, ratio = ACTIVATIONS["relu"]
    nothing = dict.fromkeys(
        ("query_norm", "key_norm", "cap", "window", "rotation", "post_norm", "mlp_post_norm", "W_gate", "b_gate")
    )
    return Layer(
        query=query,
        key=key,
        value=value,
        W_O=W_O,
        b_O=b_O,
        scale=scale,
        causal=causal,
        norm=norm,
        mlp_norm=norm,
        W_in=W_in,
        W_out=W_out,
        b_in=b_in,
        b_out=b_out,
        function=function,
        ratio=ratio,
        **nothing,
    )


def transformer_of(model: Model) -> Transformer:
    """A model's weights, laid open.

    Raises:
        UnsupportedModel: its MLPs are experts or their activation is not known; or it is TransformerLens's own and
            turns its heads by position.
    """
    config = getattr(model.network, "config", None)
    if config is None and not model.learned_positions:
        raise UnsupportedModel(
            f"{model.name} is TransformerLens's own without learned positions: components are found in those that have."
        )
    if model.family.mlp == "experts":
        raise UnsupportedModel(f"{model.name} has experts for MLPs: components are found in models without.")
    if model.activation not in ACTIVATIONS and model.family.mlp != "none":
        raise UnsupportedModel(
            f"{model.name} uses the activation {model.activation!r}; the functions known are {', '.join(ACTIVATIONS)}."
        )
    epsilon = next((getattr(config, name) for name in EPSILON if hasattr(config, name)), model.norm_epsilon)
    function, ratio = ACTIVATIONS.get(model.activation, ACTIVATIONS["relu"])  # without MLPs, any
    centred = model.family.norm == "layer"

    def live(norm: Norm | None) -> LiveNorm | None:
        return None if norm is None else LiveNorm(norm.gain, norm.bias, centred, epsilon)

    def layer(at: int, block: Block) -> Layer:
        attention = model.attention_scores(at)
        share = model.heads // len(attention.W_K)
        return Layer(
            query=Projection(attention.W_Q, attention.b_Q, 1),
            key=Projection(attention.W_K, attention.b_K, share),
            value=Projection(block.W_V, block.b_V, model.heads // len(block.W_V)),
            query_norm=_head_norm(attention.query_norm, attention.W_Q.shape[-1], 1, epsilon),
            key_norm=_head_norm(attention.key_norm, attention.W_K.shape[-1], share, epsilon),
            W_O=block.W_O,
            b_O=block.b_O,
            scale=attention.scale,
            cap=attention.cap,
            window=attention.window,
            rotation=None if attention.rotation is None else _remembered(attention.rotation, model),
            causal=model.causal,
            norm=live(block.attention_norm),
            post_norm=live(block.attention_post_norm),
            mlp_norm=live(block.mlp_norm),
            mlp_post_norm=live(block.mlp_post_norm),
            W_gate=block.W_gate,
            W_in=block.W_in,
            W_out=block.W_out,
            b_gate=block.b_gate,
            b_in=block.b_in,
            b_out=block.b_out,
            function=function,
            ratio=ratio,
        )

    W_E = model.W_E
    longest = W_E.norm(dim=1).argmax()
    _, seen = model.run(longest[None, None], read=[("token_embedding", 0)])
    passed = seen[("token_embedding", 0)][0, 0]
    scale = float((W_E[longest] @ passed) / (W_E[longest] @ W_E[longest]))  # Gemma's √d_model, as its dtype rounds it
    return Transformer(
        name=model.name,
        layers=[layer(at, block) for at, block in enumerate(model.whole_blocks)],
        W_E=W_E,
        embedding_scale=1.0 if math.isclose(scale, 1.0, rel_tol=1e-6) else scale,
        W_pos=model.positions,
        W_U=model.W_U,
        b_U=model.b_U,
        final_norm=live(model.final_norm),
        parallel=model.parallel,
        cap=model.logit_cap,
    )


@torch.no_grad()
def check_faithful(transformer: Transformer, model: Model, tokens: Int[Tensor, "batch pos"]) -> None:
    """Hold the open transformer to the real model on these prompts.

    Raises:
        UnfaithfulModel: their logits differ.
    """
    real, _ = model.run(tokens)
    ours = transformer.unembed(transformer.run(transformer.embed(tokens)).after)
    apart = float((ours - real).abs().max() / (real.max() - real.min()))
    if not apart <= FAITHFUL[model.dtype]:
        raise UnfaithfulModel(
            f"the components of {model.name} do not add up to it: its logits differ by {apart:.1e} of their spread, "
            f"{FAITHFUL[model.dtype]:.0e} is allowed. Some part of it is not known here; please report that."
        )


def _head_norm(gain: Tensor | None, d_head: int, share: int, epsilon: float) -> LiveNorm | SharedNorm | None:
    """The norm on every head's queries or keys, or on all of them at once. share: heads that read each group."""
    if gain is None or len(gain) == d_head:
        return None if gain is None else LiveNorm(gain, None, False, epsilon)
    return SharedNorm(gain.unflatten(0, (-1, d_head)).repeat_interleave(share, 0), epsilon)


def _remembered(rotation: Callable[[Tensor, Tensor], Any], model: Model) -> Rotation:
    """The model's own tables, made once a length."""
    known: dict[int, tuple[Tensor, Tensor]] = {}

    def tables(length: int) -> tuple[Tensor, Tensor]:
        if length not in known:
            like = torch.zeros(1, dtype=model.dtype, device=model.device)
            cosine, sine = rotation(like, torch.arange(length, device=model.device)[None])
            known[length] = (cosine[0], sine[0])
        return known[length]

    return tables


def _rotate(
    x: Float[Tensor, "... pos d_head"], rotation: Rotation | None, length: int
) -> Float[Tensor, "... pos d_head"]:
    """The first dimensions of each head turned by position, halves against halves. x: the last ones of a length."""
    if rotation is None:
        return x
    cosine, sine = (table[length - x.shape[-2] :] for table in rotation(length))
    width = cosine.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    low, high = turned.chunk(2, -1)
    return torch.cat((turned * cosine + torch.cat((-high, low), -1) * sine, rest), -1)
