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
    width, units = stored.matrix("W_enc", "d_in unit")
    _, out = stored.matrix("W_dec", "unit d_out")
    stored.expect(
        {
            "W_enc": (width, units),
            "W_dec": (units, out),
            "b_enc": (units,),
            "b_dec": (out,),
            "threshold": (units,),
        }
    )
    return Layer(
        path=stored.path,
        number=number,
        reads=reads,
        writes=writes,
        W_enc=stored.large("W_enc", turned=True),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("W_dec"),
        b_dec=stored.small("b_dec"),
        threshold=stored.small("threshold"),
    )


def read_gemma_scope_2_layer(stored: Stored, number: int, reads: str, writes: str) -> Layer:
    """Lower case: w_enc [d_in unit], w_dec [unit d_out], b_enc, b_dec, threshold, the skip [d_in d_out]."""
    width, units = stored.matrix("w_enc", "d_in unit")
    _, out = stored.matrix("w_dec", "unit d_out")
    affine = "affine_skip_connection"
    stored.expect(
        {
            "w_enc": (width, units),
            "w_dec": (units, out),
            "b_enc": (units,),
            "b_dec": (out,),
            "threshold": (units,),
        },
        {affine: (width, out)},
    )
    return Layer(
        path=stored.path,
        number=number,
        reads=reads,
        writes=writes,
        W_enc=stored.large("w_enc", turned=True),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("w_dec"),
        b_dec=stored.small("b_dec"),
        threshold=stored.small("threshold"),
        W_skip=stored.large(affine, turned=True) if affine in stored.shapes else None,
    )
