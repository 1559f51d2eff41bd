"""The large random sets: what their files hold, hole or not, is what they say."""

from pathlib import Path

import pytest
import torch

from benchmarks.large_sets import RandomSet, cached, find_tensor
from circuits.formats import load

LAYERS, UNITS, WIDTH = 3, 40, 8


@pytest.mark.parametrize("kind", ["cross-layer", "per-layer"])
def test_a_set_of_holes_holds_the_rows_that_were_filled_in_and_zeros(kind: str, tmp_path: Path):
    whole, holes = (RandomSet(tmp_path / name, kind, LAYERS, UNITS, WIDTH) for name in ("whole", "holes"))
    whole.write(0.5, holes=False)
    holes.write(0.5, holes=True)
    for layer in range(LAYERS):
        holes.fill(layer, [layer, 17])

    one, other = load(whole.folder), load(holes.folder)

    for layer in range(LAYERS):
        rows = torch.tensor([layer, 17])
        assert torch.equal(one.W_enc[layer], other.W_enc[layer]) and one.threshold[layer].eq(0.5).all()
        assert torch.equal(one.W_dec[layer], whole.decoder(layer).float()) and one.W_dec[layer].any(-1).all()
        assert torch.equal(one.W_dec[layer][rows], other.W_dec[layer][rows])
        assert int(other.W_dec[layer].any(-1).any(-1).sum()) == 2
        assert one.written_layers(layer).stop == (LAYERS if kind == "cross-layer" else layer + 1)


def test_what_was_just_written_is_in_the_page_cache(tmp_path: Path):
    made = RandomSet(tmp_path / "set", "per-layer", 1, 4096, WIDTH)
    made.write(0.5, holes=False)
    path, name = made.decoder_file(0)
    begin, end = find_tensor(path, name)
    assert end - begin == 4096 * WIDTH * 2
    assert end - begin <= cached(path, begin, end) <= end - begin + 2 * 4096
