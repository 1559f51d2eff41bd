"""`circuits transcoders`: the sets that are known, and which are on this machine; `get` fetches one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from circuits.hub import listing

if TYPE_CHECKING:
    from circuits.hub.offers import Offer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listing.add_arguments(parser, "transcoders", "gemma cross-layer")


def run(arguments: argparse.Namespace) -> int:
    if listing.is_get(arguments):
        from circuits.hub.fetching import fetch_transcoders
        from circuits.hub.published import SETS, shipped_transcoders

        name = arguments.words[1]
        model = {each.name: each.model for each in SETS}.get(name, "MODEL")
        then = f"circuits trace PROMPT -m {model} -t {name}"
        return listing.get(arguments, fetch_transcoders, [*shipped_transcoders(), "neurons"], then)
    from circuits.hub.offers import set_offers

    return listing.show(arguments, set_offers(), cells)


def cells(offer: Offer) -> tuple[str, ...]:
    """What a line says of a set between its name and its size."""
    about = offer.about
    features = about["features"]
    units = "" if about["layers"] is None else f"{about['layers']} layers"
    units += f" × {features:,}" if features is not None else ""
    return (
        f"for {about['model']}" if about["model"] else "",
        str(about["kind"] or ""),
        units,
        str(about["layout"] or ""),
    )
