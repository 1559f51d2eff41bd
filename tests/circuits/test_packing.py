"""Rows that are packed are the rows of the matrix they stand for: on both kinds of device, in memory and in a file."""

from mmap import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from circuits import packing
from circuits.packing import Runs, Sheet, Stretches, pack, runs_of, stack

# Two positions. Columns: tokens 0 and 1, bias 2, of layer 0 units 3 | 4 5, of layer 1 unit 6 at position 1 alone.
STRETCHES = Stretches(np.array([0, 2, 3, 6]), np.array([[1, 2], [3, 3], [4, 6], [6, 7]]))
LAYER, POSITION = np.array([2, 1, 1]), np.array([1, 1, 0])
POSSIBLE = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0, 0]])  # by the comment above
TARGET = np.array([9, 8, 7])


def filled(kernel: str = "_add_on_cpu") -> tuple[Sheet, np.ndarray]:
    """A sheet onto which scores were added twice, and the matrix that it stands for."""
    numbers = torch.Generator().manual_seed(5)
    sheet = Sheet(STRETCHES, LAYER, POSITION, torch.empty(0, dtype=torch.float64))
    dense = np.zeros(POSSIBLE.shape)
    # Written together: the bias, unit 3, token 0 (a run each), then at another position units 4 and 5 (one run).
    runs = Runs(np.array([2, 3, 0, 4, 5]), np.array([1, 2, 0, 2, 2]), np.array([0, 1, 2, 3, 5]))
    for rows, first, last in (([0, 1, 2], 0, 3), ([0, 2], 0, 3), ([0, 1], 3, 5)):
        scores = torch.randn(len(rows), last - first, generator=numbers, dtype=torch.float64)
        getattr(sheet, kernel)(torch.tensor(rows), scores, runs, first)
        dense[np.array(rows)[:, None], runs.column[first:last]] += scores.numpy()
    return sheet, dense


@pytest.mark.parametrize("kernel", ["_add_on_cpu", "_add_indexed"])
def test_scores_go_where_their_columns_are(kernel: str):
    sheet, dense = filled(kernel)

    assert np.diff(sheet.start).tolist() == POSSIBLE.sum(1).tolist()
    np.testing.assert_array_equal(sheet.weight.numpy(), dense[POSSIBLE.astype(bool)])


@pytest.mark.parametrize(("row", "column"), [(1, 6), (2, 4), (2, 1)])
def test_a_column_that_a_row_cannot_have_is_refused(row: int, column: int):
    sheet = Sheet(STRETCHES, LAYER, POSITION, torch.empty(0, dtype=torch.float64))

    with pytest.raises(IndexError, match="no such column"):
        sheet.add(torch.tensor([row]), torch.ones(1, 1, dtype=torch.float64), runs_of(np.array([column]), STRETCHES))


@pytest.mark.parametrize("limit", [0, 2**31])
def test_rows_are_what_is_not_zero_and_know_their_sums(limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "IN_MEMORY", limit)  # nothing in memory, or all
    sheet, dense = filled()

    rows = pack(TARGET, sheet, STRETCHES)
    source, target, weight = stack([rows]).edges()

    rebuilt = np.zeros((10, 7))
    rebuilt[target, source] = weight
    np.testing.assert_array_equal(rebuilt[TARGET], dense)
    assert (weight != 0).all()
    assert (np.diff(target * 10 + source) > 0).all()
    np.testing.assert_allclose(rows.total, dense.sum(1))
    np.testing.assert_allclose(rows.size, np.abs(dense).sum(1))
    np.testing.assert_allclose(rows.bias, np.abs(dense[:, 2]))


def test_edges_from_nodes_that_become_one_are_added():
    sheet, dense = filled()
    place = np.array([0, 1, 2, 3, 4, 3, 5, 6, 7, 8])  # 5 becomes one with 3

    source, target, weight = stack([pack(TARGET, sheet, STRETCHES)], place).edges()

    rebuilt = np.zeros((9, 6))
    rebuilt[target, source] = weight
    merged = dense[:, [0, 1, 2, 3, 4, 6]]
    merged[:, 3] += dense[:, 5]
    np.testing.assert_allclose(rebuilt[place[TARGET]], merged)


def test_rows_found_apart_are_sorted_together():
    sheet, _ = filled()
    rows = pack(np.array([7, 9, 8]), sheet, STRETCHES)
    others = pack(np.array([10, 5, 6]), sheet, STRETCHES)

    found = stack([rows, others])

    assert found.target.tolist() == [5, 6, 7, 8, 9, 10]
    for row, part, at in ((0, others, 1), (2, rows, 0), (5, others, 0)):
        expected = part.source[part.start[at] : part.start[at + 1]], part.weight[part.start[at] : part.start[at + 1]]
        here = slice(found.start[row], found.start[row + 1])
        np.testing.assert_array_equal((found.source[here], found.weight[here]), expected)
        assert found.total[row] == part.total[at]


def test_a_file_of_edges_has_no_name_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sheet, _ = filled()

    rows = pack(TARGET, sheet, STRETCHES, in_file=True)

    assert isinstance(_memory_of(rows.weight), mmap) and isinstance(_memory_of(rows.source), mmap)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(rows.weight, pack(TARGET, sheet, STRETCHES).weight)


def _memory_of(array: np.ndarray) -> object:
    """What an array looks into in the end."""
    looked_at = array
    while isinstance(looked_at, np.ndarray):
        looked_at = looked_at.base
    return looked_at


def test_neighbours_are_one_run_unless_something_else_parts_them():
    assert runs_of(np.array([3, 4, 5, 6]), STRETCHES).first.tolist() == [0, 3, 4]
    assert runs_of(np.array([3, 4, 5, 6]), STRETCHES, np.array([False, True, False])).first.tolist() == [0, 2, 3, 4]
