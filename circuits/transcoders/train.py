"""Training transcoders: sparse features that stand in for the MLPs of a model.

JumpReLU features `a = h * (h > threshold)`, one threshold a layer, steered so that a layer has
as many active features as asked for. First each layer's output is matched, then the model with
every MLP replaced is made to answer as the model itself does, since a small error in each layer
can still be a large one at the end.

At position 0 models keep a large constant; the MLPs there are left as they are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PUSH = 3e-3
"""How strongly a silent feature is drawn to its threshold."""

LEAST, MOST = 0.6, 1.4
"""Bounds of the part of the active features that one layer gets, times the mean."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Text to imitate the model on.

    tokens: token ids. [row pos]
    weight: how much a position counts for matching outputs; 0 for padding and position 0. [row pos]
    answer_weight: how much the prediction made at a position counts for imitating answers. [row pos]
    """

    tokens: Int[Tensor, "row pos"]
    weight: Float[Tensor, "row pos"]
    answer_weight: Float[Tensor, "row pos"]


@dataclass(frozen=True)
class Plan:
    """How many features, how sparse, how long.

    features: of each layer.
    active: features active on one token in one layer, on average over tokens and layers.
    steps: batches.
    rate: of Adam.
    active_at_start: as a multiple of `active`; it falls to 1 over `sparsen_until` of the steps.
    imitate_from: the share of the steps after which answers count too.
    decay_from: the share of the steps after which the rate falls linearly to zero.
    imitation: weight of the divergence of answers (nats) against that of outputs (share of variance).
    silent_after: steps without firing after which a feature is pushed to fire.
    """

    features: int = 1024
    active: float = 6.5
    steps: int = 1600
    rate: float = 2e-3
    warm_up: int = 50
    active_at_start: float = 4.0
    sparsen_until: float = 0.35
    imitate_from: float = 0.35
    decay_from: float = 0.55
    imitation: float = 1.0
    silent_after: int = 60


@dataclass(frozen=True, eq=False)
class Trained:
    """What was trained. Slot j of layer l's decoder writes to the output of MLP l + j.

    encoder: one a layer. [feature d_in]
    encoder_bias: one a layer. [feature]
    threshold: one a layer. [feature]
    decoder: one a layer; one slot when per-layer. [feature slot d_out]
    decoder_bias: belongs to the layer written to. [layer d_out]
    """

    encoder: tuple[Float[Tensor, "feature d_in"], ...]
    encoder_bias: tuple[Float[Tensor, "feature"], ...]
    threshold: tuple[Float[Tensor, "feature"], ...]
    decoder: tuple[Float[Tensor, "feature _slot d_out"], ...]
    decoder_bias: Float[Tensor, "layer d_out"]

    @property
    def layers(self) -> int:
        return len(self.encoder)

    def encode(self, x: Float[Tensor, "*batch d_in"], layer: int) -> Float[Tensor, "*batch feature"]:
        h = nn.functional.linear(x, self.encoder[layer], self.encoder_bias[layer])
        return h * (h > self.threshold[layer])

    def decode(self, active: Sequence[Float[Tensor, "*batch feature"]], layer: int) -> Float[Tensor, "*batch d_out"]:
        """What the features of layers 0 to `layer` write to the output of MLP `layer`.

        active: activations of the layers up to this one; only the last is read when per-layer.
        """
        out = self.decoder_bias[layer]
        for source in range(layer + 1):
            if layer - source < self.decoder[source].shape[1]:
                out = out + active[source] @ self.decoder[source][:, layer - source]
        return out

    def map(self, change: Callable[[Tensor], Tensor]) -> "Trained":
        """The same with every tensor changed, say moved or rounded."""
        return Trained(
            tuple(map(change, self.encoder)),
            tuple(map(change, self.encoder_bias)),
            tuple(map(change, self.threshold)),
            tuple(map(change, self.decoder)),
            change(self.decoder_bias),
        )


def train(
    model: nn.Module,
    mlps: Sequence[nn.Module],
    draw: Callable[[], list[Batch]],
    plan: Plan,
    *,
    cross_layer: bool,
    seed: int,
    report: Callable[[int, dict[str, float]], None] = lambda step, numbers: None,
    every: int = 100,
) -> Trained:
    """Transcoders for the MLPs of a Hugging Face model, reading and writing what each module in `mlps` does.

    The loss, with σ² the variance of an MLP's output over the first batches:

        Σ_layers |reconstruction - output|² / σ²  +  imitation · KL(model ‖ model with all MLPs replaced)

    draw: gives the next batches; several, so that rows of unlike lengths need no padding.
    report: hears the step and the means of the last `every` steps.

    Departs from the usual recipe in that thresholds are steered by feedback and not learned:
    θ ← θ · exp(0.03 · log(active / wanted)), which needs no surrogate gradient and no penalty.
    Decoders have at most norm one, so that a feature can write less than its threshold where
    outputs are small. A layer that is hard to match gets a greater part of the active features: in proportion to the
    root of its error, between LEAST and MOST times the mean.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = _Scale.of(model, mlps, draw)
    student = _start(scale, plan, cross_layer, generator)
    trained = [*student.encoder, *student.encoder_bias, *student.decoder, student.decoder_bias]
    for tensor in trained:
        tensor.requires_grad_()
    adam = torch.optim.Adam(trained, lr=plan.rate, betas=(0.9, 0.99), fused=True)
    silent = torch.zeros(student.layers, plan.features, device=student.decoder_bias.device)
    _aim(student, scale.record(model, mlps, draw()[0]), plan)
    lately = torch.ones(student.layers)
    totals: dict[str, float] = {}
    for step in range(plan.steps):
        share = step / plan.steps
        wanted = plan.active * plan.active_at_start ** max(0.0, 1 - share / plan.sparsen_until)
        imitating = share >= plan.imitate_from
        batches = draw()
        outputs_weight = sum(float(batch.weight.sum()) for batch in batches)
        answers_weight = sum(float(batch.answer_weight[:, 1:].sum()) for batch in batches)
        fired = torch.zeros_like(silent)
        counted = torch.zeros(student.layers, device=silent.device)
        numbers = {"divergence": 0.0}
        for batch in batches:
            seen = scale.record(model, mlps, batch)
            errors, push, active = _match(student, seen, batch.weight / outputs_weight, silent > plan.silent_after)
            fired += active.amax(dim=1)
            counted += active.sum(dim=(1, 2))
            loss = errors.sum() + PUSH * push
            if imitating:
                divergence = _divergence(student, scale, model, mlps, batch, seen)
                numbers["divergence"] += divergence.item() / answers_weight
                loss = loss + plan.imitation * divergence / answers_weight
            loss.backward()
            for layer, error in enumerate(errors.tolist()):
                numbers[f"error {layer}"] = numbers.get(f"error {layer}", 0.0) + error
        ramp = min(1.0, (step + 1) / plan.warm_up, (1 - share) / (1 - plan.decay_from))
        adam.param_groups[0]["lr"] = plan.rate * ramp
        adam.step()
        adam.zero_grad(set_to_none=True)
        positions = sum(int((batch.weight > 0).sum()) for batch in batches)
        silent = torch.where(fired > 0, 0, silent + 1)
        lately.lerp_(torch.tensor([numbers[f"error {layer}"] for layer in range(student.layers)]), 0.05)
        portion = (lately / lately.mean()).sqrt().clamp(LEAST, MOST)
        portion /= portion.mean()
        with torch.no_grad():
            for layer in range(student.layers):
                norm = student.decoder[layer].flatten(1).norm(dim=1)[:, None, None]
                student.decoder[layer].div_(norm.clamp(min=1))
                active_now = max(float(counted[layer]) / positions, 1e-3)
                excess = active_now / (wanted * float(portion[layer]))
                student.threshold[layer].mul_(math.exp(0.03 * math.log(excess)))
                numbers[f"active {layer}"] = active_now
        numbers["silent"] = float((silent > plan.silent_after).sum())
        for name, number in numbers.items():
            totals[name] = totals.get(name, 0.0) + number / every
        if (step + 1) % every == 0:
            report(step + 1, totals)
            totals = {}
    return scale.unscaled(student)


def _match(
    student: Trained, seen: "_Seen", weight: Tensor, silent: Tensor
) -> tuple[Float[Tensor, "layer"], Float[Tensor, ""], Float[Tensor, "layer position feature"]]:
    """The error of each layer as a share of variance; how far silent features are from firing; who fired where."""
    weight = weight.reshape(-1)
    counts = (weight > 0).to(weight.dtype)[:, None]
    active, firing, errors = [], [], []
    far = torch.zeros((), device=weight.device)
    for layer in range(student.layers):
        h = nn.functional.linear(seen.inputs[layer], student.encoder[layer], student.encoder_bias[layer])
        on = (h > student.threshold[layer]).to(h.dtype)
        active.append(h * on)
        firing.append(on * counts)
        error = (student.decode(active, layer) - seen.outputs[layer]).square().sum(-1)
        errors.append((error * weight).sum())
        if silent[layer].any():
            far = far + ((student.threshold[layer] - h.mean(0)) * silent[layer]).sum()
    return torch.stack(errors), far, torch.stack(firing).detach()


def _divergence(
    student: Trained, scale: "_Scale", model: nn.Module, mlps: Sequence[nn.Module], batch: Batch, seen: "_Seen"
) -> Float[Tensor, ""]:
    """Weighted sum over positions of KL(model ‖ replaced), nats."""
    weight = batch.answer_weight
    with replaced(mlps, scale.unscaled(student)):
        log_q = model(input_ids=batch.tokens).logits.float().log_softmax(-1)
    return ((seen.log_p.exp() * (seen.log_p - log_q)).sum(-1)[:, 1:] * weight[:, 1:]).sum()


@contextmanager
def replaced(mlps: Sequence[nn.Module], transcoders: Trained) -> Iterator[list[Tensor]]:
    """The model with every MLP's output replaced by its reconstruction, but for position 0.

    Gives a list that holds the activations of every layer after a run. [row pos feature]
    """
    active: list[Tensor] = []

    def hook(layer: int) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def run(_: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
            if layer == 0:
                active.clear()
            active.append(transcoders.encode(args[0], layer))
            return torch.cat([output[:, :1], transcoders.decode(active, layer)[:, 1:]], dim=1)

        return run

    handles = [mlp.register_forward_hook(hook(layer)) for layer, mlp in enumerate(mlps)]
    try:
        yield active
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(mlps: Sequence[nn.Module]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Two lists that hold every MLP's input and output after a run. [row pos d]"""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if len(inputs) == len(mlps):
            inputs.clear()
            outputs.clear()
        inputs.append(args[0])
        outputs.append(output)

    handles = [mlp.register_forward_hook(hook) for mlp in mlps]
    try:
        yield inputs, outputs
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the model did on a batch, positions flattened; inputs and outputs in units of training."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    log_p: Tensor


@dataclass(frozen=True, eq=False)
class _Scale:
    """Units in which training happens: inputs of mean squared norm one, outputs centred with total variance one.

    Then a layer's error is the share of its variance that is unexplained.
    """

    input: Float[Tensor, "layer"]
    output: Float[Tensor, "layer"]
    mean: Float[Tensor, "layer d_out"]

    @staticmethod
    def of(
        model: nn.Module, mlps: Sequence[nn.Module], draw: Callable[[], list[Batch]], *, batches: int = 4
    ) -> "_Scale":
        one = torch.ones(len(mlps))
        plain = _Scale(one, one, torch.zeros(len(mlps), 1))
        seen = [(plain.record(model, mlps, b), b.weight.reshape(-1) > 0) for _ in range(batches) for b in draw()]
        inputs = [torch.cat([s.inputs[layer][keep] for s, keep in seen]) for layer in range(len(mlps))]
        outputs = [torch.cat([s.outputs[layer][keep] for s, keep in seen]) for layer in range(len(mlps))]
        return _Scale(
            torch.stack([x.square().sum(-1).mean().sqrt() for x in inputs]),
            torch.stack([y.var(0, unbiased=False).sum().sqrt() for y in outputs]),
            torch.stack([y.mean(0) for y in outputs]),
        )

    @torch.no_grad()
    def record(self, model: nn.Module, mlps: Sequence[nn.Module], batch: Batch) -> _Seen:
        with recorded(mlps) as (inputs, outputs):
            logits = model(input_ids=batch.tokens).logits.float()
            return _Seen(
                [x.flatten(0, 1).float() / s for x, s in zip(inputs, self.input.to(logits.device), strict=True)],
                [
                    (y.flatten(0, 1).float() - m) / s
                    for y, m, s in zip(outputs, self.mean.to(logits.device), self.output.to(logits.device), strict=True)
                ],
                logits.log_softmax(-1),
            )

    def unscaled(self, student: Trained) -> Trained:
        """The same transcoders in the model's own units."""
        decoders = []
        for layer, decoder in enumerate(student.decoder):
            size = self.output[layer : layer + decoder.shape[1]]
            decoders.append(decoder * size[None, :, None])
        return Trained(
            tuple(w / s for w, s in zip(student.encoder, self.input, strict=True)),
            student.encoder_bias,
            student.threshold,
            tuple(decoders),
            student.decoder_bias * self.output[:, None] + self.mean,
        )


def _start(scale: _Scale, plan: Plan, cross_layer: bool, generator: torch.Generator) -> Trained:
    """Random directions, decoders of norm one."""
    layers, width = scale.mean.shape
    device = scale.mean.device

    def directions(*shape: int) -> Tensor:
        drawn = torch.randn(plan.features, *shape, generator=generator).to(device)
        return drawn / drawn.flatten(1).norm(dim=1).view(-1, *[1] * len(shape))

    return Trained(
        tuple(directions(width) for _ in range(layers)),
        tuple(torch.zeros(plan.features, device=device) for _ in range(layers)),
        tuple(torch.ones(plan.features, device=device) for _ in range(layers)),
        tuple(directions(layers - layer if cross_layer else 1, width) for layer in range(layers)),
        torch.zeros(layers, width, device=device),
    )


@torch.no_grad()
def _aim(student: Trained, seen: _Seen, plan: Plan) -> None:
    """Set thresholds so that as many features fire at the start as are wanted there."""
    share = plan.active * plan.active_at_start / plan.features
    for layer in range(student.layers):
        h = seen.inputs[layer][:1000] @ student.encoder[layer].T
        student.threshold[layer].fill_(h.flatten().kthvalue(int(h.numel() * (1 - min(share, 0.5)))).values)
