"""A dictionary of MLPs with one of attention beside it, as one dictionary."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from circuits.model import Model
from circuits.transcoders.attention_autoencoders import AttentionAutoencoders
from circuits.transcoders.base import Dictionary
from circuits.transcoders.lorsa import Lorsa

AttentionSet = Lorsa | AttentionAutoencoders


class WithAttention:
    """What `mlps` is, for MLPs; and in the layers that it has, `attention` in place of the model's own."""

    def __init__(self, mlps: Dictionary, attention: AttentionSet) -> None:
        self.mlps = mlps
        self.attention = attention
        self.name = f"{mlps.name}+{attention.name}"
        both = f"{mlps.content_hash} {attention.content_hash} {attention.numbers}"
        self.content_hash = hashlib.sha256(both.encode()).hexdigest()[:12]
        self.notes: dict[str, dict[str, Any]] = {**mlps.notes, **attention.notes}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mlps, name)

    def for_model(self, model: Model) -> Dictionary:
        return put_beside(self.mlps.for_model(model), self.attention)


def put_beside(mlps: Dictionary, attention: AttentionSet) -> Dictionary:
    """The two as one dictionary."""
    return cast(Dictionary, WithAttention(mlps, attention))


def attention_of(dictionary: Dictionary) -> AttentionSet | None:
    """What a dictionary has in place of attention, None where the model's own is left."""
    return getattr(dictionary, "attention", None)
