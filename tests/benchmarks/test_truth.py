"""Programs compiled by hand: each computes what it says, and its circuit is the one it was wired with."""

import numpy as np
import pytest
import torch

from benchmarks.truth import TRUTHS
from benchmarks.truth.cutting import TOLERANCE, cutter
from benchmarks.truth.programs import PROGRAMS
from circuits.attribution.exact_edges import patch_every_edge
from circuits.components.ablations import ABLATIONS
from circuits.components.edge_scores import components_of

ABLATED = ("resample", "zero", "mean", "mean-by-position")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_it_is_made_to_say_after_every_prompt(name):
    program = PROGRAMS[name]()
    transformer, prompts = program.transformer, torch.tensor(program.prompts)

    said = transformer.unembed(transformer.run(transformer.embed(prompts)).after[:, -1]).argmax(-1)

    assert said.tolist() == [program.answer(prompt) for prompt in program.prompts]
    assert len(set(said.tolist())) > 1


@pytest.mark.parametrize("ablation", ABLATED)
@pytest.mark.parametrize("name", PROGRAMS)
def test_patching_every_edge_finds_the_edges_that_matter_when_each_is_cut_alone(name, ablation):
    truth = TRUTHS[name]()
    ablate = ABLATIONS[ablation](truth.transformer, [truth.pairs], lambda name, done, total: None)

    scores = patch_every_edge(truth.transformer, truth.pairs, truth.metric, ablation=ablate).numpy()

    assert ((np.abs(scores) > TOLERANCE) == truth.found(ablation)).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_wiring_alone_gives_every_answer_and_all_else_gives_none(name):
    truth = TRUTHS[name]()
    edges = components_of(truth.transformer).edges
    cut = cutter(truth.transformer, truth.pairs, truth.metric, "resample")

    whole, wiring, rest = (cut(each) for each in (edges & False, edges & ~truth.designed, truth.designed))

    assert (whole > 0.2).all()
    assert torch.allclose(wiring, whole)
    assert (rest < 0).all()
