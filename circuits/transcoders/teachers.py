"""The model that transcoders are trained to imitate: what its MLPs read and write, what it says with others in place.

At position 0 models keep a large constant; the MLPs there are left as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from circuits.model import Model
from circuits.sites import Edit
from circuits.transcoders.trained import Trained

READS, WRITES = "mlp_input", "mlp_output"  # of what `circuits train` makes; see `circuits.sites.SITES`
LEAST = 1e-30  # a probability whose logarithm float32 still holds


@dataclass(frozen=True, eq=False)
class Recorded:
    """A run of the model. inputs, outputs: of every layer's MLP. [row pos d]  log_p: what it says. [row pos vocab]"""

    inputs: list[Tensor]
    outputs: list[Tensor]
    log_p: Tensor


@runtime_checkable
class Teacher(Protocol):
    """layers: how many MLPs there are."""

    @property
    def layers(self) -> int: ...

    def record(self, tokens: Int[Tensor, "row pos"]) -> Recorded:
        """The model as it is."""
        ...

    def imitated(self, tokens: Int[Tensor, "row pos"], transcoders: Trained) -> Float[Tensor, "row pos vocab"]:
        """Log-probabilities with every MLP replaced, with gradients."""
        ...


@dataclass(frozen=True, eq=False)
class Modules:
    """A Hugging Face model, reading and writing what each module in `mlps` does."""

    model: nn.Module
    mlps: Sequence[nn.Module]

    @property
    def layers(self) -> int:
        return len(self.mlps)

    def record(self, tokens: Int[Tensor, "row pos"]) -> Recorded:
        with recorded(self.mlps) as (inputs, outputs):
            logits = self.model(input_ids=tokens).logits.float()
            return Recorded(inputs, outputs, logits.log_softmax(-1))

    def imitated(self, tokens: Int[Tensor, "row pos"], transcoders: Trained) -> Float[Tensor, "row pos vocab"]:
        with replaced(self.mlps, transcoders):
            return self.model(input_ids=tokens).logits.float().log_softmax(-1)


@dataclass(frozen=True, eq=False)
class Whole:
    """A model of any family: its MLPs' inputs behind norm and gain, their outputs as they join the residual stream."""

    model: Model

    @property
    def layers(self) -> int:
        return self.model.layers

    def record(self, tokens: Int[Tensor, "row pos"]) -> Recorded:
        layers = range(self.layers)
        logits, seen = self.model.run(tokens, read=[(site, layer) for site in (READS, WRITES) for layer in layers])
        inputs, outputs = ([seen[(site, layer)] for layer in layers] for site in (READS, WRITES))
        return Recorded(inputs, outputs, self._log(logits))

    def imitated(self, tokens: Int[Tensor, "row pos"], transcoders: Trained) -> Float[Tensor, "row pos vocab"]:
        inputs: list[Tensor] = []
        active: list[Tensor] = []

        def read(layer: int) -> Edit:
            def hook(x: Tensor) -> Tensor:
                inputs.append(x.float())
                active.append(transcoders.encode(inputs[layer], layer))
                return x

            return hook

        def write(layer: int) -> Edit:
            return lambda output: _instead(output, transcoders.rebuild(active, inputs[layer], layer))

        edits = {(READS, layer): read(layer) for layer in range(self.layers)}
        edits |= {(WRITES, layer): write(layer) for layer in range(self.layers)}
        logits, _ = self.model.run(tokens, edit=edits, gradient=True)
        return self._log(logits)

    def _log(self, logits: Tensor) -> Tensor:
        return self.model.probabilities(logits.float()).clamp_min(LEAST).log()


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
            return _instead(output, transcoders.rebuild(active, args[0], layer))

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


def _instead(output: Float[Tensor, "row pos d"], rebuilt: Float[Tensor, "row pos d"]) -> Float[Tensor, "row pos d"]:
    return torch.cat([output[:, :1], rebuilt[:, 1:].to(output.dtype)], dim=1)
