"""Every published layout: recognised by itself, read right, in memory as from its files, and fit to be traced."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import circuits.formats
from circuits.formats import FORMATS, load, recognise
from circuits.transcoders.stepped import SteppedTranscoders
from circuits.transcoders.transcoders import Transcoders
from tests.circuits.layouts import CASES, LAYOUTS, WIDTH

SHARED = Path(__file__).parents[3] / "shared" / "formats"
layouts = pytest.mark.parametrize(("name", "write", "place"), CASES, ids=[f"{n}-{w.__name__}{p}" for n, w, p in CASES])


def draw(found: Transcoders) -> torch.Tensor:
    return torch.randn(found.layers, 4, WIDTH, generator=torch.Generator().manual_seed(1))


def test_every_layout_of_the_table_is_written_here():
    assert list(LAYOUTS) == list(FORMATS)


@layouts
def test_a_layout_is_recognised_and_gives_what_its_arithmetic_gives(tmp_path: Path, name, write, place):
    plain = write(tmp_path)

    found = load(tmp_path / place)
    x = draw(found)

    assert recognise(tmp_path / place) == name
    for ours, theirs in zip(found.reconstruct(x), plain(x), strict=True):
        torch.testing.assert_close(ours, theirs)


@layouts
def test_a_set_that_stays_in_its_files_gives_the_same(tmp_path: Path, monkeypatch, name, write, place):
    write(tmp_path)
    whole = load(tmp_path / place)
    x = draw(whole)
    monkeypatch.setattr(circuits.formats, "IN_MEMORY", 0)
    monkeypatch.setattr("circuits.transcoders.transcoders.FEW", 0)  # gathers the rows of live units
    monkeypatch.setattr("circuits.transcoders.transcoders.BLOCK", 3 * WIDTH)  # encodes three units at a time

    left = load(tmp_path / place)

    assert left.unchecked and not whole.unchecked
    for ours, theirs in zip(left.reconstruct(x), whole.reconstruct(x), strict=True):
        torch.testing.assert_close(ours, theirs)


@layouts
def test_vectors_read_and_written_say_what_a_unit_does(tmp_path: Path, name, write, place):
    write(tmp_path)
    found = load(tmp_path / place)
    for layer in range(found.layers):
        x = draw(found)[layer]
        acts = found.activations(layer, x)
        position, unit = acts.nonzero().unbind(1)
        vector, constant = found.reading(layer, x[position], unit)
        torch.testing.assert_close((vector * x[position]).sum(-1) + constant, acts[position, unit])
        if isinstance(found, SteppedTranscoders):
            continue  # what it writes is no multiple of its activation: it cannot be traced
        for to in found.written_layers(layer):
            written = acts[position, unit, None] * found.writing(layer, unit, to)
            summed = torch.zeros_like(x).index_add_(0, position, written)
            torch.testing.assert_close(summed, found.decode(layer, acts, to))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no published-layout samples beside this checkout")
def test_samples_of_published_layouts_give_their_expected_numbers():
    index = json.loads((SHARED / "index.json").read_text())
    assert len(index) >= 30
    for entry in index:
        expected = np.load(SHARED / entry["folder"] / "expected.npz")
        for key in ("load", "wrapper"):
            if key not in entry:
                continue
            place = SHARED / entry["folder"] / entry[key].removesuffix("/config.yaml")
            found = load(place)
            acts, out = found.reconstruct(torch.tensor(expected["x"], dtype=torch.float32))
            np.testing.assert_allclose(acts.numpy(), expected["acts"], rtol=1e-4, atol=1e-5, err_msg=str(place))
            np.testing.assert_allclose(out.numpy(), expected["out"], rtol=1e-4, atol=1e-5, err_msg=str(place))
            # A list of one set's files numbers them from 0, whatever layer they are of.
            assert list(found.numbers or range(found.layers)) == entry["layers"]


@pytest.mark.parametrize(
    ("folder", "reads", "writes"),
    [
        ("circuit_tracer_plt_relu", "mlp_input", "mlp_raw"),
        ("circuit_tracer_plt_relu_skip", "residual_mid", "mlp_output"),
        ("gemmascope_npz", "mlp_normalised", "mlp_output"),
        ("gemmascope2_clt", "mlp_input", "mlp_output"),
        ("sparsify_skip", "mlp_input", "mlp_raw"),
        ("saelens_sae_v5_flat", "residual_before", "residual_before"),
        ("circuit_tracer_clt_sweep", "not stated", "not stated"),
    ],
)
@pytest.mark.skipif(not SHARED.is_dir(), reason="no published-layout samples beside this checkout")
def test_the_same_words_for_a_hook_become_the_tensor_its_publisher_meant(folder: str, reads: str, writes: str):
    entry = next(entry for entry in json.loads((SHARED / "index.json").read_text()) if entry["folder"] == folder)
    found = load(SHARED / folder / entry["load"])
    assert (found.reads, found.writes) == (reads, writes)
