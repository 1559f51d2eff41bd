"""What decides how transcoders come out that a user trains, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuits.errors import BadOption, UnsupportedModel
from circuits.model import Model
from circuits.texts import fingerprint
from circuits.transcoders.train import KINDS

ACTIVATIONS = ("jumprelu", "topk")
SELF = "self"


@dataclass(frozen=True)
class Settings:
    """model: its content hash. data: see `data_of`. features: of a layer. active: of them at a token, on average.

    Either steps or minutes is None. batch: texts at a step.
    """

    model: str
    kind: str
    activation: str
    data: str
    features: int
    active: float
    steps: int | None
    minutes: float | None
    batch: int
    seed: int

    @property
    def parts(self) -> dict[str, object]:
        """By name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def check_settings(model: Model, settings: Settings) -> None:
    """The settings make sense for this model.

    Raises:
        BadOption: a size is impossible. UnsupportedModel: the model has no MLPs.
    """
    if model.family.mlp == "none":
        raise UnsupportedModel(f"{model.name} has attention only: there is no MLP that transcoders could stand in for.")
    if settings.kind not in KINDS or settings.activation not in ACTIVATIONS:
        raise BadOption(f"a kind is one of {', '.join(KINDS)}, an activation one of {', '.join(ACTIVATIONS)}.")
    if settings.kind == "clt" and settings.activation == "topk":
        raise BadOption("circuit-tracer's cross-layer layout knows no TopK: train jumprelu, or another kind.")
    if not 0 < settings.active <= settings.features / 2:
        raise BadOption(
            f"of {settings.features:,} features at most half can be active at a token, {settings.active:g} were asked "
            "for: give fewer, or more features."
        )
    if settings.activation == "topk" and settings.active != int(settings.active):
        raise BadOption(f"TopK keeps a whole number of features active, {settings.active:g} were asked for.")
    if settings.features == model.d_model and settings.kind != "clt":
        raise BadOption(
            f"with as many features as the model is wide ({model.d_model}), nobody can tell the two sides of a stored "
            f"decoder: give one more, {model.d_model + 1}."
        )


def data_of(text: str) -> str:
    """What tells texts apart: SELF for the model's own, else the hash of a file. Raises BadTexts."""
    return SELF if text == SELF else fingerprint(Path(text))
