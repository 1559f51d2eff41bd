"""The kernels of the sweep give the same numbers, and those of the plain sum."""

import numpy as np
import pytest
import torch

from circuits import mixing


@pytest.mark.parametrize("kernel", ["_on_cpu", "_by_products", "_padded"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [True, False])
def test_rows_move_from_queries_to_keys(kernel: str, kv_heads: int, causal: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixing, "SHORT", 4)  # so that the longest is done in two pieces
    numbers = torch.Generator().manual_seed(3)
    heads, width, longest = 4, 3, 6
    pattern = torch.randn(heads, longest, longest, generator=numbers, dtype=torch.float64)
    pattern = pattern.triu() if causal else pattern  # key <= query
    length = np.array([6, 1, 4, 4])
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    z = torch.randn(int(length.sum()), heads * width, generator=numbers, dtype=torch.float64)

    which = () if kernel == "_padded" else (causal,)
    moved = getattr(mixing, kernel)(pattern, z, start, length, kv_heads, *which)

    plain = torch.zeros(len(z), kv_heads, width, dtype=torch.float64)
    for first, rows in zip(start, length, strict=True):
        for head in range(heads):
            for key in range(rows):
                for query in range(rows):
                    given = z[first + query].view(heads, width)[head]
                    plain[first + key, head * kv_heads // heads] += pattern[head, key, query] * given
    torch.testing.assert_close(moved, plain.flatten(1))


@pytest.mark.parametrize("kernel", ["_unfold_on_cpu", "_unfold_padded"])
def test_one_vector_a_head_becomes_a_row_a_position(kernel: str):
    numbers = torch.Generator().manual_seed(4)
    pattern = torch.randn(3, 6, 6, generator=numbers, dtype=torch.float64)
    length = np.array([5, 1, 3])
    start, position = np.array([0, 5, 6]), np.array([4, 0, 1])
    vectors = torch.randn(3, 4, 2, generator=numbers, dtype=torch.float64)
    out = torch.full((9, 2), torch.nan, dtype=torch.float64)

    getattr(mixing, kernel)(pattern, vectors, start, length, position, out)

    for target, (first, rows, own) in enumerate(zip(start, length, position, strict=True)):
        for key in range(rows):
            plain = sum(pattern[head, key, own] * vectors[target, head] for head in range(3))
            plain = plain + vectors[target, 3] * (key == own)
            torch.testing.assert_close(out[first + key], plain)
