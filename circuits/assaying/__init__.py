"""The assay: a graph's claims against fixed, registered experiments in the real model, with controls."""

from circuits.assaying.assaying import assay

__all__ = ["assay"]
