"""ACDC with shared runs and candidates side by side against the plain loop: one whole run for every edge."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.acdc import take_out_plainly
from circuits.attribution.acdc import Standing, take_edges_out
from circuits.components.ablations import resample
from circuits.components.batching import divide
from circuits.components.circuit_runs import run_circuit, run_variants
from circuits.components.edge_scores import components_of
from circuits.components.finding import search_out
from circuits.components.metrics import METRICS
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs
from circuits.errors import BadOption
from tests.circuits.test_component_ablations import SHORT
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import model_of, native_of


@pytest.mark.parametrize(("family", "threshold"), [("gemma2", 0.003), ("gpt_neox", 0.002)])
def test_the_circuit_is_that_of_a_run_for_every_edge(family, threshold):
    transformer = transformer_of(model_of(family))
    pairs, metric = [SHORT, PAIRS], METRICS["kl"]

    plain = take_out_plainly(transformer, pairs, metric, threshold, skip=False)
    found = take_edges_out(transformer, pairs, metric, threshold=threshold)
    one_by_one = take_edges_out(transformer, pairs, metric, threshold=threshold, at_once=1)

    assert (found.chosen == plain).all() and (one_by_one.chosen == plain).all()
    edges = components_of(transformer).edges
    assert 5 < plain.sum() < 0.9 * edges.sum()
    assert (found.rise[found.chosen] >= threshold).all() and (found.rise[edges & ~found.chosen] < threshold).all()
    assert one_by_one.tried <= edges.sum()


@pytest.mark.parametrize("family", OPEN)
def test_variants_of_a_circuit_are_their_own_runs(family):
    transformer = transformer_of(model_of(family))
    components = components_of(transformer)
    clean, other = transformer.run(transformer.embed(PAIRS.clean)), resample(transformer, PAIRS)
    numbers = torch.Generator().manual_seed(2)
    edges = torch.from_numpy(components.edges)
    for name in ("logits", "m1", "m0", "a1.h2<q>", "a1.h1<k>", "a0.h3<v>"):
        reader = components.readers.index(name)
        cut = (torch.rand(edges.shape, generator=numbers) < 0.5) & edges
        cut[:, :reader] = False
        columns = (torch.rand(len(edges), 3, generator=numbers) < 0.5) & edges[:, reader, None]

        found = run_variants(transformer, clean, other, cut.double(), reader, columns.double())

        for variant in range(3):
            cut[:, reader] = columns[:, variant]
            expected = run_circuit(transformer, transformer.embed(PAIRS.clean), other, cut.double())
            torch.testing.assert_close(found[variant], expected)


def test_a_threshold_above_all_leaves_nothing_and_one_below_all_leaves_what_leads_somewhere():
    transformer = transformer_of(model_of("llama"))

    nothing = take_edges_out(transformer, [PAIRS], METRICS["kl"], threshold=1e6)
    everything = take_edges_out(transformer, [PAIRS], METRICS["kl"], threshold=-1e6)

    edges = components_of(transformer).edges
    assert not nothing.chosen.any() and nothing.tried == edges[:, -1].sum()  # no other edge leads anywhere by then
    assert (everything.chosen == edges).all()


def test_a_search_that_was_interrupted_goes_on_to_the_same_circuit():
    transformer = transformer_of(native_of("plain"))
    asked, stood, done = (transformer, [SHORT, PAIRS], METRICS["kl"]), [], []
    whole = take_edges_out(*asked, threshold=0.001)

    def keep(standing):
        stood.append(standing)
        if len(stood) == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_edges_out(*asked, threshold=0.001, keep=keep)
    begun = replace(stood[-1], cut=stood[-1].cut.copy(), rise=stood[-1].rise.copy())
    rest = take_edges_out(*asked, threshold=0.001, begin=stood[-1], progress=lambda at, total: done.append(at))

    assert done == list(range(14, len(components_of(transformer).readers) + 1))
    assert (rest.chosen == whole.chosen).all() and (rest.rise == whole.rise).all() and rest.tried == whole.tried
    assert stood[-1].cut.any() and whole.chosen.any()
    assert (stood[-1].cut == begun.cut).all() and (stood[-1].rise == begun.rise).all()
    assert stood[-1].speed > 2  # it goes on as fast as it was


def test_how_far_it_is_stays_on_disk_until_it_is_over(tmp_path):
    model = native_of("bare")
    settings = {"threshold": 0.001, "unfinished": tmp_path / "kept"}
    done = []

    def stop(name, at, total):
        if name == "taking edges out":
            done.append(at)
            if len(done) == 7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_out(model, [SHORT, PAIRS], progress=stop, **settings)
    search_out(model, [SHORT, PAIRS], **{**settings, "threshold": 0.002})  # another question
    assert (tmp_path / "kept").exists()
    found = search_out(model, [SHORT, PAIRS], progress=stop, memory=1e9, **settings)

    assert done[6:8] == [7, 8] and done[-1] == 27 and not (tmp_path / "kept").exists()
    assert (found.scores == search_out(model, [SHORT, PAIRS], threshold=0.001).scores).all()


def peak_of(work):
    """The most bytes of tensors that were alive at once, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        work()
    results: Any = told.profiler
    events = [each for each in results.kineto_results.events() if each.name() == "[memory]"]
    events.sort(key=lambda each: each.start_ns())
    return int(np.cumsum([each.nbytes() for each in events]).max())


MANY = Pairs(**{name: column.repeat(8, *[1] * (column.dim() - 1)) for name, column in vars(PAIRS).items()})


@pytest.mark.parametrize("family", ["gemma2", "gpt2"])
def test_no_more_memory_is_taken_than_is_given(family):
    transformer = transformer_of(model_of(family))
    components = components_of(transformer)
    nothing, left = np.zeros(components.edges.shape), components.heads  # but the first layer's queries: most is alive
    late = Standing(len(components.readers) - left, nothing > 0, nothing, 0.0, 0, 64)
    how = {"threshold": 1.0, "begin": late}

    most = peak_of(lambda: take_edges_out(transformer, [SHORT, MANY], METRICS["kl"], **how))

    for memory in (most / 2, most / 5):
        peak = peak_of(lambda memory=memory: take_edges_out(transformer, [MANY], METRICS["kl"], **how, memory=memory))
        assert memory / 8 < peak < memory


def test_little_memory_makes_no_difference():
    transformer = transformer_of(native_of("bare"))
    pairs, metric = [SHORT, MANY], METRICS["kl"]
    rooms = [divide(transformer, pairs, memory) for memory in (3e5, 1e8)]
    whole = take_edges_out(transformer, pairs, metric, threshold=0.001)

    found = take_edges_out(transformer, pairs, metric, threshold=0.001, memory=3e5)

    assert (found.chosen == whole.chosen).all() and whole.chosen.any()
    assert not rooms[0].keeps and rooms[1].keeps
    assert rooms[0].batch < rooms[1].batch == 16 and rooms[0].candidates <= rooms[1].candidates
    with pytest.raises(BadOption, match="give more memory"):
        take_edges_out(transformer, pairs, metric, memory=1e4)
