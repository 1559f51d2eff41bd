"""One layer in one file, as three publishers store it: circuit-tracer, Gemma Scope and Gemma Scope 2."""

from __future__ import annotations

from circuits.errors import DamagedTranscoders
from circuits.formats.files import Stored
from circuits.formats.layers import Layer


def read_circuit_tracer_layer(stored: Stored, number: int, reads: str, writes: str) -> Layer:
    """W_enc, W_dec [unit d], b_enc, b_dec, `activation_function.threshold` for JumpReLU, W_skip [d_out d_in]."""
    units, width = stored.matrix("W_enc", "unit d_in")
    if units == width and stored.shapes.get("W_dec") == (units, width):
        raise DamagedTranscoders(
            f"{stored.path} has as many features as the model is wide ({width}): whether W_dec is [unit d_out] or, as "
            "in older sets, [d_out unit] cannot be told, so it is refused."
        )
    threshold = "activation_function.threshold"
    stored.expect(
        {"W_enc": (units, width), "W_dec": (units, width), "b_enc": (units,), "b_dec": (width,)},
        {threshold: (units,), "W_skip": (width, width)},
    )
    return Layer(
        path=stored.path,
        number=number,
        reads=reads,
        writes=writes,
        W_enc=stored.large("W_enc"),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("W_dec"),
        b_dec=stored.small("b_dec"),
        threshold=stored.small(threshold) if threshold in stored.shapes else None,
        W_skip=stored.large("W_skip") if "W_skip" in stored.shapes else None,
    )


def read_gemma_scope_layer(stored: Stored, number: int, reads: str, writes: str) -> Layer:
    """W_enc [d_in unit], W_dec [unit d_out], b_enc, b_dec, threshold."""
    return _read_turned(stored, number, reads, writes, "W_enc", "W_dec")


def read_gemma_scope_2_layer(stored: Stored, number: int, reads: str, writes: str) -> Layer:
    """Lower case: w_enc [d_in unit], w_dec [unit d_out], b_enc, b_dec, threshold, the skip [d_in d_out]."""
    return _read_turned(stored, number, reads, writes, "w_enc", "w_dec", skip="affine_skip_connection")


def _read_turned(
    stored: Stored, number: int, reads: str, writes: str, encoder: str, decoder: str, *, skip: str | None = None
) -> Layer:
    """Matrices by these names, each with its input first; the skip may be missing."""
    width, units = stored.matrix(encoder, "d_in unit")
    _, out = stored.matrix(decoder, "unit d_out")
    stored.expect(
        {encoder: (width, units), decoder: (units, out), "b_enc": (units,), "b_dec": (out,), "threshold": (units,)},
        {skip: (width, out)} if skip else {},
    )
    return Layer(
        path=stored.path,
        number=number,
        reads=reads,
        writes=writes,
        W_enc=stored.large(encoder, turned=True),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large(decoder),
        b_dec=stored.small("b_dec"),
        threshold=stored.small("threshold"),
        W_skip=stored.large(skip, turned=True) if skip and skip in stored.shapes else None,
    )
