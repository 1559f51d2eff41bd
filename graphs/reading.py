"""JSON read as a type says, so that what is missing or wrong is named at once and trips nobody up later."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from graphs.errors import ForeignFolder

WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def read(value: Any, kind: Any, place: str = "") -> Any:
    """The value as `kind` wants it: dataclasses made, numbers turned to floats, and null to nan where one is wanted.

    JSON has no nan, so undefined numbers are stored as null; in `float | None` null stays None.

    kind: str, bool, int, float, Any, a sequence or mapping of such, a union, a dataclass, or a TypedDict: keys that it
        does not name are passed on as they are, those that a dataclass does not name are refused.
    place: where the value stands, for the message: `verdicts[0].number`.

    Raises:
        ForeignFolder: something is missing or of another type; the message says what and where.
    """
    origin = get_origin(kind) or kind
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(value, kind, place)
    if is_typeddict(kind):
        hints = _hints(kind)
        _check_keys(value, kind.__required_keys__, place)
        return {key: read(each, hints[key], _join(place, key)) if key in hints else each for key, each in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        _check_keys(value, [f.name for f in fields(kind) if f.default is f.default_factory is MISSING], place)
        strange = [key for key in value if key not in hints]
        if strange:
            raise ForeignFolder(f"{_join(place, strange[0])} is nothing that this program knows.")
        return kind(**{key: read(each, hints[key], _join(place, key)) for key, each in value.items()})
    if origin is float:
        return _read_number(value, place)
    if origin in (str, bool, int):
        if type(value) is not origin or (isinstance(value, str) and not _is_unicode(value)):
            raise _misfit(value, origin, place)
        return value
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _misfit(value, dict, place)
        inner = get_args(kind)[1]
        return {key: each if inner is Any else read(each, inner, _join(place, key)) for key, each in value.items()}
    if not isinstance(value, list | tuple):
        raise _misfit(value, list, place)
    return [read(each, get_args(kind)[0], f"{place}[{number}]") for number, each in enumerate(value)]


def _read_union(value: Any, kind: Any, place: str) -> Any:
    choices = get_args(kind)
    if value is None and type(None) in choices:
        return None
    for choice in choices:
        # The types in a union differ in what JSON calls them, so the first that fits in kind is the one meant.
        if isinstance(value, _json_types(choice)):
            return read(value, choice, place)
    raise _misfit(value, choices, place)


def _json_types(kind: Any) -> type | tuple[type, ...]:
    origin = get_origin(kind) or kind
    if origin is float:
        return (int, float)
    if origin in (str, bool, int, type(None)):
        return origin
    return dict if is_dataclass(kind) or is_typeddict(kind) or issubclass(origin, Mapping) else list


def _read_number(value: Any, place: str) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.inf
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise _misfit(value, float, place)
    return number


def _check_keys(value: Any, required: Any, place: str) -> None:
    if not isinstance(value, Mapping):
        raise _misfit(value, dict, place)
    missing = sorted(_join(place, key) for key in required if key not in value)
    if missing:
        raise ForeignFolder(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.")


def _misfit(value: Any, kinds: Any, place: str) -> ForeignFolder:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    wanted = " or ".join(WORDS.get(get_origin(kind) or kind, "an object") for kind in kinds)
    found = repr(value)
    found = found if len(found) <= 40 else f"{found[:40]}…"
    return ForeignFolder(f"{place or 'all of it'} should be {wanted}, found {found}.")


def _join(place: str, key: str) -> str:
    key = key if len(key) <= 40 else f"{key[:40]}…"
    return f"{place}.{key}" if place else key


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no terminal takes
        return False
    return True


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
