"""Programs compiled by hand: each says what it should, and its circuit is the one it was wired with."""

from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.truth import TRUTHS
from benchmarks.truth.cutting import TOLERANCE, cutter
from benchmarks.truth.program import pair_up
from benchmarks.truth.programs import PROGRAMS
from circuits.attribution.exact_edges import patch_every_edge
from circuits.attribution.exact_parts import patch_every_part
from circuits.components.ablations import ABLATIONS
from circuits.components.components import connected
from circuits.components.edge_scores import components_of, read_logits
from circuits.components.parts import parts_of

OTHERS = ("zero", "mean", "mean-by-position")


@cache
def known(name):
    """A truth, whose brute force is done once for all tests."""
    return TRUTHS[name]()


def ablation_of(truth, name):
    return ABLATIONS[name](truth.transformer, [truth.pairs], lambda name, done, total: None)


def edges_of(truth, *names):
    """The edges of these names, as a table."""
    components = components_of(truth.transformer)
    found = np.zeros_like(components.edges)
    for name in names:
        found[components.edge(name)] = True
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_it_is_made_to_say_after_every_prompt(name):
    program = PROGRAMS[name]()
    transformer, prompts = program.transformer, torch.tensor(program.prompts)

    said = transformer.unembed(transformer.run(transformer.embed(prompts)).after[:, -1]).argmax(-1)

    assert said.tolist() == [program.answer(prompt) for prompt in program.prompts]
    assert len(set(said.tolist())) > 1


@pytest.mark.parametrize(
    ("name", "ablation"),
    [*((name, "resample") for name in PROGRAMS), *(("counting", each) for each in OTHERS), ("cancelling", "zero")],
)
def test_patching_finds_the_edges_and_nodes_that_matter_when_each_is_cut_alone(name, ablation):
    truth = known(name)
    given, ablate = (truth.transformer, truth.pairs, truth.metric), ablation_of(truth, ablation)

    edges = patch_every_edge(*given, ablation=ablate).numpy()
    nodes = patch_every_part(*given, parts_of(truth.transformer), ablation=ablate).numpy()

    assert ((np.abs(edges) > TOLERANCE) == truth.found(ablation)).all()
    assert ((np.abs(nodes) > TOLERANCE) == truth.found_nodes(ablation)).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_wiring_alone_gives_every_answer_and_all_else_gives_none(name):
    truth = known(name)
    edges = components_of(truth.transformer).edges
    cut = cutter(truth.transformer, truth.pairs, truth.metric, "resample")

    whole, wiring, rest = (cut(each) for each in (edges & False, edges & ~truth.designed, truth.designed))

    assert (whole > 0).all()
    assert torch.allclose(wiring, whole)
    assert (rest < 0).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_designed_edges_are_those_by_which_the_weights_join_what_is_written_to_what_is_read(name):
    truth = known(name)
    transformer, components = truth.transformer, components_of(truth.transformer)
    writes = {"input": transformer.W_E}
    reads = {"logits": transformer.W_U}
    for at, layer in enumerate(transformer.layers):
        for head in range(transformer.heads):
            writes[f"a{at}.h{head}"] = layer.W_O[head]
            for letter, each in zip("qkv", (layer.query, layer.key, layer.value), strict=True):
                reads[f"a{at}.h{head}<{letter}>"] = each.weight[head]
        writes[f"m{at}"], reads[f"m{at}"] = layer.W_out, layer.W_in

    joined = np.array(
        [
            [bool((writes[source] @ reads[reader]).any()) for reader in components.readers]
            for source in components.sources
        ]
    )

    assert (connected(components, joined & components.edges) == truth.designed).all()


def test_alone_no_edge_into_an_or_gate_matters_and_two_at_a_time_all_do():
    truth = known("either")
    cut = cutter(truth.transformer, truth.pairs, truth.metric, "resample")

    assert (truth.found("resample") == edges_of(truth, "m0->logits")).all()
    assert (truth.found_together("resample") == truth.designed).all()
    assert torch.equal(cut(edges_of(truth, "a0.h0->m0")), cut(edges_of(truth)))
    assert (cut(edges_of(truth, "a0.h0->m0", "a0.h1->m0")) < 0).all()


def test_of_an_and_gate_every_edge_matters_alone():
    truth = known("both")

    assert (truth.found("resample") == truth.designed).all()


@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_a_head_in_reserve_speaks_only_where_the_first_was_knocked_out(ablation):
    truth = known("backup")
    transformer, pairs, designed = truth.transformer, truth.pairs, truth.designed
    embedding, other = transformer.embed(pairs.clean), ablation_of(truth, ablation)(transformer, pairs)

    def spoken(run):
        """What the second head writes at the end."""
        return run.mixed[1][:, 0, -1] @ transformer.layers[1].W_O[0]

    whole = transformer.run(embedding)
    without = whole.mixed[0].clone()
    without[:, 0] = other.mixed[0][:, 0]
    repaired = transformer.run(embedding, replace={("mixed", 0): without})

    assert spoken(whole).abs().max() < TOLERANCE < spoken(repaired).abs().max()
    assert torch.allclose(read_logits(transformer, repaired.after, pairs), read_logits(transformer, whole.after, pairs))
    assert (truth.found(ablation) == edges_of(truth, "a0.h0->m1", "m1->logits")).all()
    assert (truth.found_together(ablation) == designed).all()
    assert not truth.found_nodes(ablation)[components_of(transformer).sources.index("a0.h0")]


def test_a_path_that_cancels_matters_edge_by_edge_and_not_as_a_whole():
    truth = known("cancelling")
    path = ("a0.h0->a1.h0<v>", "a0.h0->a1.h1<v>", "a1.h0->logits", "a1.h1->logits")
    cut = cutter(truth.transformer, truth.pairs, truth.metric, "resample")
    whole = cut(edges_of(truth))

    assert (truth.found("resample") & edges_of(truth, *path)).sum() == len(path)
    assert not truth.found("resample")[edges_of(truth, "input->a0.h0<v>")].any()
    assert truth.found_together("resample")[edges_of(truth, "input->a0.h0<v>")].all()
    assert not truth.found_nodes("resample")[components_of(truth.transformer).sources.index("a0.h0")]
    assert torch.allclose(cut(edges_of(truth, "input->a0.h0<v>", *path)), whole)
    assert not torch.allclose(cut(edges_of(truth, path[0])), whole)


def test_what_is_true_depends_on_the_ablation():
    marks, normed = known("indirect-object"), known("induction-normed")

    unmarked = marks.found("resample") & ~marks.found("zero")

    assert (unmarked == edges_of(marks, "input->a0.h0<q>", "input->a0.h0<k>", "a0.h0->a1.h0<k>")).all()
    assert (normed.found("resample") == normed.designed).all()
    assert (normed.found("zero") & ~normed.designed).any()


def test_norms_bring_every_stream_to_length_one():
    transformer = known("induction-normed").transformer
    stream = transformer.begin(transformer.embed(torch.tensor([[0, 1, 2]])))

    norm = transformer.layers[0].norm
    assert norm is not None and torch.allclose(norm(stream).norm(dim=-1), torch.ones(1, 3, dtype=torch.float64))


def test_pairs_are_of_prompts_with_different_answers_read_at_the_end():
    prompts = [(first, last) for first in range(4) for last in range(3)]

    pairs = pair_up(prompts, lambda prompt: prompt[0], count=5, seed=2)
    again = pair_up(prompts[3:], lambda prompt: prompt[0], prompts[:3], count=100)

    assert (len(pairs), len(again)) == (5, 9)
    assert (again.corrupted[:, 0] == 0).all() and (again.clean[:, 0] == again.right).all()
    assert all((each.right != each.wrong).all() and (each.position == 1).all() for each in (pairs, again))
