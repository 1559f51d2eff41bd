"""The checker of types and shapes in tests, named in pyproject.toml: beartype, with an int doing for a float.

It looks as often as tells a fault: at the first FIRST calls of each function in a test, and at one in EVERY after that.
And what looks at a function is made once, though it be defined inside another and so anew at every call of that one.
To make it each time, and look each time, took half of the time of all tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from threading import local
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

FIRST, EVERY = 100, 50
calls: Counter[int] = Counter()
"""How often each function was called in this test, by the identity of its code; tests/conftest.py begins anew."""

_at_every_call = jaxtyping.jaxtyped
_checked: dict[int, Callable] = {}  # by the identity of the code, which each of them keeps alive
_looked_at = local()  # .functions: those whose arguments are being looked at, the latest last


def now_and_then(function: Any = None, *, typechecker: Callable) -> Any:
    """What jaxtyping puts around every function and class of the packages, put in its place: a class as it does."""
    if function is None:
        return partial(now_and_then, typechecker=typechecker)
    if isinstance(function, type):
        return _at_every_call(function, typechecker=typechecker)
    code = id(function.__code__)

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        calls[code] = count = calls[code] + 1
        if count > FIRST and count % EVERY:
            return function(*arguments, **options)
        if code not in _checked:
            _checked[code] = _at_every_call(_handed_on(function), typechecker=typechecker)
        standing = _looked_at.__dict__.setdefault("functions", [])
        standing.append(function)
        try:
            return _checked[code](*arguments, **options)
        finally:
            standing.pop()

    return called


def _handed_on(function: Any) -> Callable:
    """What has the function's signature and calls the one of its code that is looked at."""
    looked_at = _looked_at

    def handed_on(*arguments: Any, **options: Any) -> Any:
        return looked_at.functions[-1](*arguments, **options)

    # With the function's own globals: that is where the names of types in its signature are looked up.
    made = FunctionType(handed_on.__code__, function.__globals__, closure=handed_on.__closure__)
    return wraps(function)(made)


jaxtyping.jaxtyped = now_and_then  # looked up there by what its import hook writes into each module
