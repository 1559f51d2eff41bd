"""The kernels of the sweep give the same numbers, and those of the plain sum."""

import numpy as np
import pytest
import torch

from circuits import mixing


@pytest.mark.parametrize("kernel", ["_on_cpu", "_padded"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_rows_move_from_queries_to_keys(kernel: str, kv_heads: int):
    numbers = torch.Generator().manual_seed(3)
    heads, width, longest = 4, 3, 6
    pattern = torch.randn(heads, longest, longest, generator=numbers, dtype=torch.float64).triu()  # key <= query
    length = np.array([6, 1, 4, 4])
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    z = torch.randn(int(length.sum()), heads * width, generator=numbers, dtype=torch.float64)

    moved = getattr(mixing, kernel)(pattern, z, start, length, kv_heads)

    plain = torch.zeros(len(z), kv_heads, width, dtype=torch.float64)
    for first, rows in zip(start, length, strict=True):
        for head in range(heads):
            for key in range(rows):
                for query in range(key, rows):
                    given = z[first + query].view(heads, width)[head]
                    plain[first + key, head * kv_heads // heads] += pattern[head, key, query] * given
    torch.testing.assert_close(moved, plain.flatten(1))
