"""A checkpoint held to its configuration: transformers draws at random what a file lacks, and says so in a log only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from safetensors import SafetensorError

LAYER = re.compile(r"(?:^|(?<=\.))(?:h|layers)\.(\d+)\.")


class WholeWeights:
    """Stands in for a model class of transformers, where it is loaded from files: only what is whole comes out.

    Raises:
        ValueError: a file of weights is cut short; a weight of the model is not in them, or has another shape there; or
            they hold more layers than config.json says. Other weights too many are let be: those of a vision tower.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def from_pretrained(self, name: str, **options: Any) -> Any:
        try:
            model, told = self._kind.from_pretrained(
                name, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        except SafetensorError as broken:
            raise ValueError(f"its weights are no whole safetensors file ({broken}): fetch it again") from broken
        wrong = {f"{key} ({list(here)}, not {list(wanted)})" for key, here, wanted in told["mismatched_keys"]}
        if wrong:
            raise ValueError(f"its weights have other shapes than config.json says: {_some(wrong)}")
        if told["missing_keys"]:
            raise ValueError(
                f"its files lack weights, which would be drawn at random: {_some(told['missing_keys'])}; fetch it again"
            )
        layers = model.config.get_text_config().num_hidden_layers
        own = " ".join(model.state_dict())
        beyond = {
            key
            for key in told["unexpected_keys"]
            if (at := LAYER.search(key))
            and int(at[1]) >= layers
            and key.replace(at[0], at[0].replace(at[1], "0")) in own
        }
        if beyond:
            raise ValueError(f"config.json says {layers} layers, its files hold more: {_some(beyond)}")
        return model


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
