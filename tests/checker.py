"""The checker of types and shapes in tests, named in pyproject.toml: beartype, with an int doing for a float.

A function that a test calls thousands of times is looked at as often as tells a fault: at its first FIRST calls, and
at one in EVERY after that. To look at every call took a fifth of the time of all tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

FIRST, EVERY = 100, 50
calls: Counter[Callable] = Counter()
"""How often each function was called in this test; tests/conftest.py begins anew."""

_at_every_call = jaxtyping.jaxtyped


def now_and_then(function: Any = None, *, typechecker: Callable) -> Any:
    """What jaxtyping puts around every function and class of the packages, put in its place: a class as it does."""
    if function is None:
        return partial(now_and_then, typechecker=typechecker)
    if isinstance(function, type):
        return _at_every_call(function, typechecker=typechecker)

    @cache
    def checked() -> Callable:  # made when first called: most functions are not, in a file of tests
        return _at_every_call(function, typechecker=typechecker)

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        calls[called] = count = calls[called] + 1
        if count > FIRST and count % EVERY:
            return function(*arguments, **options)
        return checked()(*arguments, **options)

    return called


jaxtyping.jaxtyped = now_and_then  # looked up there by what its import hook writes into each module
