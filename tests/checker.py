"""The checker of types and shapes in tests, named in pyproject.toml: beartype, with an int doing for a float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
