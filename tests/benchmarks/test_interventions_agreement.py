"""Our interventions against circuit-tracer's, wherever its environment is installed."""

import pytest

from benchmarks.interventions_agreement import CASES, compare, report
from benchmarks.peers.case_tables import DTYPES, read_rows
from benchmarks.peers.cases import Case
from benchmarks.peers.jobs import INSTALL, installed


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason=INSTALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_interventions_are_the_peers(case: Case, dtype: str):
    found = compare(case, dtype)

    assert found.holds, found


def test_cases_that_are_not_run_again_keep_their_lines(tmp_path):
    path = tmp_path / "interventions_agreement.md"
    name = CASES[-1].name
    line = f"| {name} | float64 | 1.0e-15 |"

    path.write_text(report({(name, "float64"): line}), encoding="utf-8")

    assert read_rows(path)[(name, "float64")] == line
    assert len(report(read_rows(path)).split("not run yet")) == len(CASES) * len(DTYPES)
    assert len({case.name for case in CASES}) == len(CASES)
