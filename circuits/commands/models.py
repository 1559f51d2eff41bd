"""`circuits models`: the models that are known, and which are on this machine; `get` fetches one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from circuits import fetching

if TYPE_CHECKING:
    from circuits.offers import Offer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    fetching.add_arguments(parser, "models", "qwen cache")


def run(arguments: argparse.Namespace) -> int:
    if fetching.is_get(arguments):
        from circuits.hub import fetch_model
        from circuits.published import shipped_models

        return fetching.get(arguments, fetch_model, shipped_models(), f"circuits trace PROMPT -m {arguments.words[1]}")
    from circuits.offers import model_offers

    return fetching.show(arguments, model_offers(), cells)


def cells(offer: Offer) -> tuple[str, ...]:
    """What a line says of a model between its name and its size."""
    layers = offer.about["layers"]
    return "" if layers is None else f"{layers} layers", "gated" if offer.about["gated"] else ""
