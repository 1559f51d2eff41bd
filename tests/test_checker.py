"""Shapes are checked in tests: at every first call, and now and then in what is called very often."""

import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError

from graphs.paths import influence
from tests import checker
from tests.worlds import graph_of


def test_what_the_packages_define_is_checked_and_counted():
    influence(graph_of([(0, 1, 2.0)], "token logit"))
    with pytest.raises(TypeCheckError, match="influence"):
        influence("no graph")  # type: ignore[arg-type]

    assert checker.calls[id(influence.__wrapped__.__code__)] == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["argument", "result"])
def test_the_first_calls_are_checked_and_one_in_so_many_after_them(wrong: str):
    @jaxtyping.jaxtyped(typechecker=checker.check)
    def twice(x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        return x[:-1] if wrong == "result" else x

    refused = []
    for call in range(1, checker.FIRST + 2 * checker.EVERY + 1):
        try:
            twice(np.zeros((2, 2) if wrong == "argument" else 2))
        except TypeCheckError:
            refused.append(call)

    last = [checker.FIRST + checker.EVERY, checker.FIRST + 2 * checker.EVERY]
    assert refused == [*range(1, checker.FIRST + 1), *last]


def test_what_is_defined_at_every_call_is_checked_and_keeps_what_it_closes_over():
    def adding(more: float, then):
        @jaxtyping.jaxtyped(typechecker=checker.check)
        def added(x: Float[np.ndarray, "n"], *, twice: bool = False) -> Float[np.ndarray, "n"]:
            return then(x + more) if twice else x + more

        return added

    one = adding(1.0, None)
    two = adding(2.0, one)

    assert (one(np.zeros(2)) == 1).all() and (two(np.zeros(2)) == 2).all()
    assert (two(np.zeros(3), twice=True) == 3).all()  # the one called inside the other
    with pytest.raises(TypeCheckError, match="added"):
        two(np.zeros((2, 2)))
    assert (one(np.zeros(2)) == 1).all()
