"""Sets that stay in their files: what is read of them, and what a trace holds meanwhile."""

import mmap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.multiprocessing.reductions import StorageWeakRef

import circuits.formats
from circuits.formats import load
from circuits.tracing import trace
from circuits.transcoders import mapped
from circuits.transcoders.mapped import fetch_rows
from tests.circuits import layouts
from tests.circuits.worlds import dictionary_of, model_of

PAGE = mmap.PAGESIZE


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The address and length of all that was asked for of the system so far."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(mapped, "_advice", lambda: lambda address, length, _: found.append((address, length)))
    return found


def test_of_rows_far_apart_only_their_own_pages_are_asked_for(asked: list[tuple[int, int]]):
    width = PAGE // 2  # of two bytes each: a row is a page long, and lies on two
    memory = torch.zeros(40 * width, dtype=torch.bfloat16)
    weight = memory[: 39 * width].view(13, 3, width)[:, 1]
    begin = weight.data_ptr() // PAGE * PAGE

    fetch_rows(weight, torch.tensor([9, 2, 2]))

    pages = 1 if weight.data_ptr() % PAGE == 0 else 2
    assert asked == [(begin + 3 * row * PAGE, pages * PAGE) for row in (2, 9)]


def test_rows_side_by_side_are_asked_for_together_and_a_turned_matrix_is_left_alone(asked: list[tuple[int, int]]):
    weight = torch.zeros(12, 8 * PAGE)
    fetch_rows(weight[:, : 8 * PAGE], torch.tensor([4, 5, 6]))
    ((address, length),) = asked
    assert address <= weight[4].data_ptr() and address + length >= weight[6].data_ptr() + 32 * PAGE
    fetch_rows(weight.T, torch.tensor([4]))
    fetch_rows(weight, torch.tensor([], dtype=torch.int64))
    assert len(asked) == 1


def test_what_the_system_is_asked_for_it_takes():
    advise = mapped._advice()
    assert advise is not None
    with mmap.mmap(-1, 4 * PAGE) as memory:
        weight = torch.frombuffer(memory, dtype=torch.float32).view(4, -1)
        assert advise(weight.data_ptr(), PAGE, mmap.MADV_WILLNEED) == 0
        del weight


@pytest.mark.parametrize("stays", [True, False])
def test_rows_are_asked_for_of_a_set_that_stays_in_its_files_and_of_no_other(
    stays: bool, tmp_path: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
):
    layouts.circuit_tracer_clt(tmp_path)
    monkeypatch.setattr(circuits.formats, "IN_MEMORY", 0 if stays else 2**29)
    found = load(tmp_path)
    found.writing(0, torch.tensor([1, 3]), 2)
    found.reading(0, torch.zeros(1, layouts.WIDTH), torch.tensor([2]))
    assert len(asked) == (2 if stays else 0)


def test_halves_that_stay_in_their_files_are_multiplied_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    layouts.circuit_tracer_plt(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    whole = load(tmp_path)
    x = torch.randn(layouts.LAYERS, 4, layouts.WIDTH, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(circuits.formats, "IN_MEMORY", 0)
    monkeypatch.setattr("circuits.transcoders.transcoders.BLOCK", 3 * layouts.WIDTH)
    left = load(tmp_path)

    assert left.W_enc[0].dtype == torch.bfloat16 and whole.W_enc[0].dtype == torch.float32
    for ours, theirs in zip(left.reconstruct(x), whole.reconstruct(x), strict=True):
        torch.testing.assert_close(ours, theirs)


class Watching:
    """A dictionary that looks, when a layer is decoded, which layers' activations are still held."""

    def __init__(self, dictionary) -> None:
        self._dictionary = dictionary
        self._given: dict[int, StorageWeakRef] = {}
        self.held: dict[int, set[int]] = {}

    def __getattr__(self, name: str):
        return getattr(self._dictionary, name)

    def decode(self, layer: int, activations: torch.Tensor, to: int) -> torch.Tensor:
        self._given[layer] = StorageWeakRef(activations.untyped_storage())
        self.held[to] = {at for at, given in self._given.items() if not given.expired()}
        return self._dictionary.decode(layer, activations, to)


@pytest.mark.parametrize(("kind", "last"), [("per-layer", {2}), ("cross-layer", {0, 1, 2})])
def test_a_trace_lets_go_of_activations_that_are_written_to_the_last(kind: str, last: set[int]):
    model = model_of("llama")
    watching = Watching(dictionary_of(model, kind))
    trace(model, watching, "a red fox runs")
    assert watching.held[2] == last
