"""Our graphs against circuit-tracer's, wherever its environment is installed."""

import pytest

from benchmarks import agreement
from benchmarks.agreement import CASES, DTYPES, compare, read_rows, report
from benchmarks.peers.cases import Case
from benchmarks.peers.jobs import INSTALL, installed


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason=INSTALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_graph_is_the_peers(case: Case, dtype: str):
    found = compare(case, dtype)

    assert found.holds, found


def test_cases_that_are_not_run_again_keep_their_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "RESULT", tmp_path / "agreement.md")
    first, last = CASES[0].name, CASES[-1].name
    earlier = {(last, "float64"): f"| {last} | float64 | True | 1.0e-15 |"}

    agreement.RESULT.write_text(report(earlier), encoding="utf-8")
    later = report(read_rows() | {(first, "float32"): f"| {first} | float32 | False | 1.0e-01 | apart"})

    rows = [line for line in later.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(CASES) * len(DTYPES)
    assert [row for row in rows if "not run yet" not in row] == [
        f"| {last} | float64 | True | 1.0e-15 |",
        f"| {first} | float32 | False | 1.0e-01 | apart",
    ]


def test_no_two_cases_share_a_line():
    assert len({case.name for case in CASES}) == len(CASES)
