"""The units in which transcoders are trained, the same for every layer and model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.transcoders.teachers import Recorded, Teacher
from circuits.transcoders.trained import Trained

LEAST = 1e-12
"""A scale that can still be divided by, for an MLP that always says the same."""


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


@dataclass(frozen=True, eq=False)
class Scale:
    """Inputs of mean squared norm one, outputs centred with total variance one.

    Then a layer's error is the share of its variance that is unexplained.
    """

    input: Float[Tensor, "layer"]
    output: Float[Tensor, "layer"]
    mean: Float[Tensor, "layer d_out"]

    @staticmethod
    def of(teacher: Teacher, draw: Callable[[], Sequence[Batch]], *, batches: int = 4) -> "Scale":
        one = torch.ones(teacher.layers)
        plain = Scale(one, one, torch.zeros(teacher.layers, 1))
        seen = [(plain.record(teacher, b), b.weight.reshape(-1) > 0) for _ in range(batches) for b in draw()]
        inputs = [torch.cat([s.inputs[layer][keep] for s, keep in seen]) for layer in range(teacher.layers)]
        outputs = [torch.cat([s.outputs[layer][keep] for s, keep in seen]) for layer in range(teacher.layers)]
        return Scale(
            torch.stack([x.square().sum(-1).mean().sqrt().clamp(min=LEAST) for x in inputs]),
            torch.stack([y.var(0, unbiased=False).sum().sqrt().clamp(min=LEAST) for y in outputs]),
            torch.stack([y.mean(0) for y in outputs]),
        )

    @torch.no_grad()
    def record(self, teacher: Teacher, batch: Batch) -> Recorded:
        """What the model did on a batch: positions flattened, inputs and outputs in these units."""
        seen = teacher.record(batch.tokens)
        device = seen.log_p.device
        return Recorded(
            [x.flatten(0, 1).float() / s for x, s in zip(seen.inputs, self.input.to(device), strict=True)],
            [
                (y.flatten(0, 1).float() - m) / s
                for y, m, s in zip(seen.outputs, self.mean.to(device), self.output.to(device), strict=True)
            ],
            seen.log_p,
        )

    def unscaled(self, student: Trained) -> Trained:
        """The same transcoders in the model's own units."""
        decoders = []
        for layer, decoder in enumerate(student.decoder):
            size = self.output[layer : layer + decoder.shape[1]]
            decoders.append(decoder * size[None, :, None])
        skip = student.skip
        return replace(
            student,
            encoder=tuple(w / s for w, s in zip(student.encoder, self.input, strict=True)),
            decoder=tuple(decoders),
            decoder_bias=student.decoder_bias * self.output[:, None] + self.mean,
            skip=None
            if skip is None
            else tuple(w * (o / i) for w, o, i in zip(skip, self.output, self.input, strict=True)),
        )
