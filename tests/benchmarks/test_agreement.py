"""Our graphs against circuit-tracer's, wherever its environment is installed."""

import pytest

from benchmarks.agreement import CASES, compare
from benchmarks.peers.cases import Case
from benchmarks.peers.jobs import INSTALL, installed


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason=INSTALL)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_graph_is_the_peers(case: Case, dtype: str):
    found = compare(case, dtype)

    assert found.holds, found
