"""Training transcoders: sparse features that stand in for the MLPs of a model.

JumpReLU features `a = h * (h > threshold)`, one threshold a layer, steered so that a layer has
as many active features as asked for; or TopK. First each layer's output is matched, then the model
with every MLP replaced is made to answer as the model itself does, since a small error in each layer
can still be a large one at the end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.transcoders.scaling import Batch, Scale
from circuits.transcoders.teachers import Recorded, Teacher
from circuits.transcoders.trained import Trained

KINDS = ("plt", "clt", "skip")
"""Each feature writes its own layer; its own and all later; its own, with a linear path beside the features."""

PUSH = 3e-3
"""How strongly a silent feature is drawn to its threshold."""

LEAST, MOST = 0.6, 1.4
"""Bounds of the part of the active features that one layer gets, times the mean."""

FLOOR = 1e-4
"""Thresholds start at least here: those that are steered by factors must not be negative."""

Draw = Callable[[], list[Batch]]


@dataclass(frozen=True)
class Plan:
    """How many features, how sparse, how long.

    features: of each layer.
    active: features active on one token in one layer, on average over tokens and layers.
    activation: "jumprelu", or "topk": as many as `active`, rounded, on every token.
    steps: batches.
    rate: of Adam.
    active_at_start: as a multiple of `active`; its logarithm falls linearly to 0 over `sparsen_until` of the steps.
    imitate_from: the share of the steps after which answers count too.
    decay_from: the share of the steps after which the rate falls linearly to zero.
    imitation: weight of the divergence of answers (nats) against that of outputs (share of variance).
    silent_after: steps without firing after which a feature is pushed to fire.
    """

    features: int = 1024
    active: float = 6.5
    activation: str = "jumprelu"
    steps: int = 1600
    rate: float = 2e-3
    warm_up: int = 50
    active_at_start: float = 4.0
    sparsen_until: float = 0.35
    imitate_from: float = 0.35
    decay_from: float = 0.55
    imitation: float = 1.0
    silent_after: int = 60


def train(
    teacher: Teacher,
    draw: Draw,
    plan: Plan,
    *,
    kind: str,
    seed: int,
    report: Callable[[int, dict[str, float]], None] = lambda step, numbers: None,
    every: int = 100,
) -> Trained:
    """Transcoders of one of KINDS for a model's MLPs, from beginning to end; see `Training`.

    draw: gives the next batches; several, so that rows of unlike lengths need no padding.
    report: hears the step and the means of the last `every` steps.
    """
    training = Training(teacher, draw, plan, kind=kind, seed=seed)
    for step in range(plan.steps):
        last = (step + 1) % every == 0
        training.step(step / plan.steps, listen=last)
        if last:
            report(step + 1, training.means.take())
    return training.trained()


class Means:
    """Means of named numbers, each over the steps that said it. sums, counts: since the last were taken."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + number
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means, and begin anew."""
        found = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return found


class Training:
    """Transcoders under way: `step` after `step`, and `trained` gives them in the model's own units.

    The loss, with σ² the variance of an MLP's output over the first batches:

        Σ_layers |reconstruction - output|² / σ²  +  imitation · KL(model ‖ model with all MLPs replaced)

    Departs from the usual recipe in that thresholds are steered by feedback and not learned:
    θ ← θ · exp(0.03 · log(active / wanted)), which needs no surrogate gradient and no penalty.
    Decoders have at most norm one, so that a feature can write less than its threshold where
    outputs are small. A layer that is hard to match gets a greater part of the active features: in proportion to the
    root of its error, between LEAST and MOST times the mean; with TopK all layers get the same.
    A feature that has been silent for long has its bias raised until it fires.

    steps: how many were done. means: of what they said, since it was last asked. products: what the model and the
    transcoders multiply under, say autocast; weights, sums and the optimiser stay in float32.
    """

    def __init__(
        self,
        teacher: Teacher,
        draw: Draw,
        plan: Plan,
        *,
        kind: str,
        seed: int,
        products: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._teacher, self._draw, self._plan, self._products = teacher, draw, plan, products
        self.steps, self.means = 0, Means()
        generator = torch.Generator().manual_seed(seed)
        with products():
            self.scale = Scale.of(teacher, draw)
            self.student = _start(self.scale, plan, kind, generator)
            _aim(self.student, self.scale.record(teacher, draw()[0]), plan)
        for tensor in self.student.weights.values():
            tensor.requires_grad_()
        self._adam = torch.optim.Adam(self.student.weights.values(), lr=plan.rate, betas=(0.9, 0.99), fused=True)
        device = self.student.decoder_bias.device
        self._silent = torch.zeros(self.student.layers, plan.features, device=device)
        self._lately = torch.ones(self.student.layers)

    def trained(self) -> Trained:
        """What there is by now."""
        return self.scale.unscaled(self.student)

    def step(self, share: float, *, listen: bool = False) -> None:
        """One step more. `means` hears each layer's error and active features, how many are silent, the divergence.

        share: of the whole training, how much lies behind.
        listen: measure the divergence even while answers do not count yet.
        """
        plan, student, step = self._plan, self.student, self.steps
        wanted = plan.active * plan.active_at_start ** max(0.0, 1 - share / plan.sparsen_until)
        if plan.activation == "topk":
            self.student = student = replace(student, k=min(round(wanted), plan.features))
        imitating = share >= plan.imitate_from
        batches = self._draw()
        outputs_weight = sum(float(batch.weight.sum()) for batch in batches)
        answers_weight = sum(float(batch.answer_weight[:, 1:].sum()) for batch in batches)
        fired = torch.zeros_like(self._silent)
        counted = torch.zeros(student.layers, device=self._silent.device)
        numbers = {"divergence": 0.0} if imitating or listen else {}
        for batch in batches:
            with self._products():
                seen = self.scale.record(self._teacher, batch)
                pushed = self._silent > plan.silent_after
                errors, push, some_fired, count = _match(student, seen, batch.weight / outputs_weight, pushed)
                fired += some_fired
                counted += count
                loss = errors.sum() + PUSH * push
                if imitating or listen:
                    with torch.set_grad_enabled(imitating):
                        divergence = self._divergence(batch, seen)
                    numbers["divergence"] += divergence.item() / answers_weight
                    if imitating:
                        loss = loss + plan.imitation * divergence / answers_weight
            loss.backward()
            for layer, error in enumerate(errors.tolist()):
                numbers[f"error {layer}"] = numbers.get(f"error {layer}", 0.0) + error
        ramp = min(1.0, (step + 1) / plan.warm_up, (1 - share) / (1 - plan.decay_from))
        self._adam.param_groups[0]["lr"] = plan.rate * ramp
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        positions = sum(int((batch.weight > 0).sum()) for batch in batches)
        self._silent = torch.where(fired > 0, 0, self._silent + 1)
        active = [max(float(count) / positions, 1e-3) for count in counted]
        self._bound([numbers[f"error {layer}"] for layer in range(student.layers)], active, wanted)
        numbers |= {f"active {layer}": count for layer, count in enumerate(active)}
        numbers["silent"] = float((self._silent > plan.silent_after).sum())
        self.means.add(numbers)
        self.steps += 1

    def state(self) -> dict[str, Tensor]:
        """All that a later `restore` needs besides `steps`, `means` and the place in the text, by name."""
        student, scale = self.student, self.scale
        found = {f"weight/{name}": tensor.detach() for name, tensor in student.weights.items()}
        for name, moments in zip(student.weights, self._adam.state_dict()["state"].values(), strict=False):
            found |= {f"adam/{name}/{moment}": tensor for moment, tensor in moments.items()}
        found |= {f"threshold/{layer}": tensor for layer, tensor in enumerate(student.threshold)}
        found |= {"silent": self._silent, "lately": self._lately}
        return found | {"scale/input": scale.input, "scale/output": scale.output, "scale/mean": scale.mean}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Become what a training of the same settings was after so many steps."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        saved = [
            {moment: state[f"adam/{name}/{moment}"] for moment in ("step", "exp_avg", "exp_avg_sq")}
            for name in self.student.weights
            if f"adam/{name}/step" in state
        ]
        self._adam.load_state_dict({**self._adam.state_dict(), "state": dict(enumerate(saved))})
        self.steps = steps

    @torch.no_grad()
    def _bound(self, errors: Sequence[float], active: Sequence[float], wanted: float) -> None:
        """Hold decoders to norm one, and steer each layer's threshold by how many of its features are active."""
        student = self.student
        self._lately.lerp_(torch.tensor(errors), 0.05)
        portion = (self._lately / self._lately.mean()).sqrt().clamp(LEAST, MOST)
        portion /= portion.mean()
        for layer in range(student.layers):
            norm = student.decoder[layer].flatten(1).norm(dim=1)[:, None, None]
            student.decoder[layer].div_(norm.clamp(min=1))
            excess = active[layer] / (wanted * float(portion[layer]))
            student.threshold[layer].mul_(math.exp(0.03 * math.log(excess)))

    def _divergence(self, batch: Batch, seen: Recorded) -> Float[Tensor, ""]:
        """Weighted sum over positions of KL(model ‖ replaced), nats."""
        log_q = self._teacher.imitated(batch.tokens, self.scale.unscaled(self.student))
        weight = batch.answer_weight
        return ((seen.log_p.exp() * (seen.log_p - log_q)).sum(-1)[:, 1:] * weight[:, 1:]).sum()


def _match(
    student: Trained, seen: Recorded, weight: Tensor, silent: Tensor
) -> tuple[Float[Tensor, "layer"], Float[Tensor, ""], Float[Tensor, "layer feature"], Float[Tensor, "layer"]]:
    """The error of each layer as a share of variance; how far silent features are from firing; who fired; how often."""
    weight = weight.reshape(-1)
    counts = (weight > 0)[:, None]
    active, fired, counted, errors = [], [], [], []
    far = torch.zeros((), device=weight.device)
    for layer in range(student.layers):
        h = student.before(seen.inputs[layer], layer)
        active.append(student.gate(h, layer))
        firing = (active[layer].detach() != 0) & counts
        fired.append(firing.any(0))
        counted.append(firing.sum())
        error = (student.rebuild(active, seen.inputs[layer], layer) - seen.outputs[layer]).square().sum(-1)
        errors.append((error * weight).sum())
        if silent[layer].any():
            level = student.threshold[layer] if student.k is None else _least_of(h, student.k)
            far = far + ((level - h.mean(0)) * silent[layer]).sum()
    return torch.stack(errors), far, torch.stack(fired).float(), torch.stack(counted).float()


def _least_of(h: Float[Tensor, "position feature"], k: int) -> Float[Tensor, ""]:
    """What it takes to be among the k largest, on average."""
    return h.detach().topk(k, dim=-1).values[:, -1].mean()


def _start(scale: Scale, plan: Plan, kind: str, generator: torch.Generator) -> Trained:
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
        tuple(directions(layers - layer if kind == "clt" else 1, width) for layer in range(layers)),
        torch.zeros(layers, width, device=device),
        tuple(torch.zeros(width, width, device=device) for _ in range(layers)) if kind == "skip" else None,
        round(plan.active) if plan.activation == "topk" else None,
    )


@torch.no_grad()
def _aim(student: Trained, seen: Recorded, plan: Plan) -> None:
    """Set thresholds so that as many features fire at the start as are wanted there."""
    share = plan.active * plan.active_at_start / plan.features
    for layer in range(student.layers):
        h = seen.inputs[layer][:1000] @ student.encoder[layer].T
        level = h.flatten().kthvalue(int(h.numel() * (1 - min(share, 0.5)))).values
        student.threshold[layer].fill_(level.clamp(min=FLOOR))
