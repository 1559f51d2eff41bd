"""`circuits models`: the models that are known, and which are on this machine; `get` fetches one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from circuits.hub import listing

if TYPE_CHECKING:
    from circuits.hub.offers import Offer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listing.add_arguments(parser, "models", "qwen cache")


def run(arguments: argparse.Namespace) -> int:
    if listing.is_get(arguments):
        from circuits.hub.fetching import fetch_model
        from circuits.hub.published import shipped_models

        return listing.get(arguments, fetch_model, shipped_models(), f"circuits trace PROMPT -m {arguments.words[1]}")
    from circuits.hub.offers import model_offers

    return listing.show(arguments, model_offers(), cells, below)


def cells(offer: Offer) -> tuple[str, ...]:
    """What a line says of a model between its name and its size."""
    layers = offer.about["layers"]
    return "" if layers is None else f"{layers} layers", "gated" if offer.about["gated"] else ""


def below(offer: Offer) -> list[str]:
    """What is said of a model below its line, where it was looked for by a word: where its card is."""
    return [f"  its card: {offer.about['card']}"] if offer.about["card"] else []
