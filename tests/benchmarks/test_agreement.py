"""Our graphs against circuit-tracer's, wherever its environment is installed."""

from dataclasses import dataclass

import pytest

from benchmarks.agreement import CASES, compare, report
from benchmarks.peers import case_tables
from benchmarks.peers.case_tables import DTYPES, read_rows, run_cases, table_of
from benchmarks.peers.cases import Case
from benchmarks.peers.jobs import INSTALL, installed


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason=INSTALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_graph_is_the_peers(case: Case, dtype: str):
    found = compare(case, dtype)

    assert found.holds, found


def test_cases_that_are_not_run_again_keep_their_lines(tmp_path):
    path = tmp_path / "agreement.md"
    first, last = CASES[0].name, CASES[-1].name
    earlier = {(last, "float64"): f"| {last} | float64 | True | 1.0e-15 |"}

    path.write_text(report(earlier), encoding="utf-8")
    later = report(read_rows(path) | {(first, "float32"): f"| {first} | float32 | False | 1.0e-01 | apart"})

    rows = [line for line in later.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(CASES) * len(DTYPES)
    assert [row for row in rows if "not run yet" not in row] == [
        f"| {last} | float64 | True | 1.0e-15 |",
        f"| {first} | float32 | False | 1.0e-01 | apart",
    ]


def test_what_is_run_is_told_and_takes_the_place_of_its_line_alone(tmp_path, monkeypatch, capsys):
    @dataclass
    class Found:
        case: str
        dtype: str
        edges: float
        holds = False

    def told(rows):
        return "\n".join(table_of(Found, CASES, rows))

    path, name = tmp_path / "table.md", CASES[-1].name
    path.write_text(told({(name, "float32"): f"| {name} | float32 | 1.0e-05 |"}), encoding="utf-8")
    monkeypatch.setattr(case_tables, "installed", lambda: True)

    code = run_cases(Found, CASES, lambda case, dtype: Found(case.name, dtype, 0.5), path, told, [name, "float64"])

    assert code == 1 and capsys.readouterr().out.endswith(f"{name} | float64 | 5.0e-01   <- apart\n")
    found = {key: line for key, line in read_rows(path).items() if key[0] == name}
    assert found == {
        (name, "float64"): f"| {name} | float64 | 5.0e-01 | apart",
        (name, "float32"): f"| {name} | float32 | 1.0e-05 |",
    }
    assert [each.name for each in tmp_path.iterdir()] == ["table.md"]


def test_no_two_cases_share_a_line():
    assert len({case.name for case in CASES}) == len(CASES)
