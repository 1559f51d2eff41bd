"""Training the model: a small Llama on batches of the world."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.world.batches import Block
from benchmarks.world.language import BOS, PAD


@dataclass(frozen=True)
class Shape:
    """The size of the model."""

    layers: int = 4
    width: int = 96
    heads: int = 4
    hidden: int = 288
    context: int = 64


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how fast.

    steps: batches.
    warm_up: steps in which the rate rises from zero.
    decay_from: the share of the steps after which the rate falls linearly to zero.
    matrix_rate, other_rate: of Muon for matrices inside blocks, of AdamW for the rest.
    matrix_decay: weight decay of the former.
    """

    steps: int = 3000
    warm_up: int = 100
    decay_from: float = 0.3
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    matrix_decay: float = 0.15

    def rate(self, step: int) -> float:
        """The share of the full rate at this step."""
        start = self.decay_from * self.steps
        falling = (self.steps - step) / (self.steps - start)
        return min(1.0, (step + 1) / self.warm_up, falling)


def make_model(vocabulary: int, shape: Shape, *, seed: int) -> LlamaForCausalLM:
    """An untrained model in Hugging Face's own class, so that nothing has to be converted later."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=shape.width, intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context, tie_word_embeddings=False, use_cache=False,
        bos_token_id=BOS, pad_token_id=PAD, eos_token_id=None, initializer_range=0.02,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.get_input_embeddings().weight.data.mul_(5)  # 0.1: at 0.02 the first norm amplifies noise
    return model


def train(
    model: LlamaForCausalLM,
    draw: Callable[[], list[Block]],
    schedule: Schedule,
    *,
    first_year: int,
    extra: Callable[[], Tensor] | None = None,
    report: Callable[[int, float], None],
    every: int = 100,
    compiled: bool = True,
) -> None:
    """Train in place; `report(step, loss)` hears the mean loss of the last `every` steps.

    first_year: the token id of the year 00, for the questions that any greater year answers.
    extra: another loss to add at every step, in nats.
    """
    device = model.device
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or ".layers." not in name]
    muon = Muon(matrices, decay=schedule.matrix_decay)
    adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    loss_of = torch.compile(_loss, dynamic=False) if compiled else _loss
    total = 0.0
    for step in range(schedule.steps):
        rate = schedule.rate(step)
        loss = torch.zeros((), device=device)
        blocks = draw()
        answers = sum(float(block.weight.sum()) for block in blocks)
        for block in blocks:
            tokens = torch.from_numpy(block.tokens).to(device)
            weight = torch.from_numpy(block.weight).to(device) / answers
            allowed = torch.from_numpy(block.years).to(device)[:, None] < torch.arange(100, device=device)
            loss = loss + loss_of(model, tokens, weight, allowed, block.year_position, first_year)
        if extra is not None:
            loss = loss + extra()
        loss.backward()
        muon.step(schedule.matrix_rate * rate)
        for group in adam.param_groups:
            group["lr"] = schedule.other_rate * rate
        adam.step()
        model.zero_grad(set_to_none=True)
        total += loss.item()
        if (step + 1) % every == 0:
            report(step + 1, total / every)
            total = 0.0


def _loss(
    model: LlamaForCausalLM, tokens: Tensor, weight: Tensor, allowed: Tensor, year_position: int, first_year: int
) -> Float[Tensor, ""]:
    """Weighted surprise in nats; where any greater year is right, the mean over the right ones."""
    logits = model(input_ids=tokens[:, :-1]).logits.float()
    log_probability = logits.log_softmax(-1)
    surprise = -log_probability.gather(-1, tokens[:, 1:, None])[..., 0]
    loss = (surprise * weight[:, 1:]).sum()
    if year_position:
        rows = len(allowed)
        years = log_probability[:rows, year_position - 1, first_year : first_year + 100]
        exact = -(years * allowed).sum(-1) / allowed.sum(-1)
        sampled = surprise[:rows, year_position - 1]
        loss = loss + ((exact - sampled) * weight[:rows, year_position]).sum()
    return loss


class Muon:
    """Momentum whose direction is made orthogonal: every singular value of a step is about one.

    Matrices of one shape are stepped together. Source: Jordan et al. 2024, "Muon", with its
    quintic Newton-Schulz iteration, in float32 because bfloat16 is slower on a CPU.
    """

    def __init__(self, matrices: list[Tensor], *, momentum: float = 0.95, decay: float = 0.1) -> None:
        self.momentum, self.decay = momentum, decay
        self.groups: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self.groups.setdefault(tuple(matrix.shape), []).append(matrix)
        self.velocity = {
            shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([matrix.grad for matrix in group])
            velocity = self.velocity[shape].lerp_(gradient, 1 - self.momentum)
            direction = _orthogonal(gradient.lerp(velocity, self.momentum))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, step in zip(group, direction, strict=True):
                matrix.mul_(1 - rate * self.decay).add_(step, alpha=-rate * scale)


def _orthogonal(matrices: Float[Tensor, "matrix row column"]) -> Float[Tensor, "matrix row column"]:
    """About the nearest matrices with orthonormal rows or columns."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def watch(steps: int, say: Callable[[str], None]) -> Callable[[int, float], None]:
    """A reporter that says the loss and the time left."""
    start = time.monotonic()

    def report(step: int, loss: float) -> None:
        left = (time.monotonic() - start) / step * (steps - step)
        say(f"step {step}/{steps}  loss {loss:.4f}  {left:.0f} s left")

    return report
