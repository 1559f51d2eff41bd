"""The checker of types and shapes in tests, named in pyproject.toml: beartype, taking an int where a float is wanted."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
