"""How much a dictionary misses of a prompt, and that an assay says it first."""

from dataclasses import replace

import pytest
import torch

from circuits import assay, attribute, trace
from circuits.assaying.rebuilding import missed_share
from circuits.errors import BadOption
from circuits.transcoders.transcoders import Transcoders
from tests.circuits.worlds import dictionary_of, model_of

PROMPT = "a red fox runs"


def mute_dictionary() -> Transcoders:
    """One whose features write nothing."""
    found = dictionary_of(model_of("llama"), "per-layer")
    assert isinstance(found, Transcoders)
    return replace(
        found,
        W_dec=[torch.zeros_like(each) for each in found.W_dec if isinstance(each, torch.Tensor)],
        b_dec=[torch.zeros_like(each) for each in found.b_dec],
    )


def test_neurons_miss_nothing_and_features_that_write_nothing_all():
    model = model_of("llama")

    assert missed_share(dictionary_of(model, "neurons"), trace(model, dictionary_of(model, "neurons"), PROMPT)) == 0
    assert missed_share(mute_dictionary(), trace(model, mute_dictionary(), PROMPT)) == pytest.approx(1)


def test_what_errors_carry_is_judged_before_all_else():
    model, mute = model_of("llama"), mute_dictionary()

    result = assay(model, mute, attribute(model, mute, PROMPT, ["red"]), experiments=["subsets"], controls=1)

    assert "errors the least" in result.verdicts[0].claim
    assert (result.verdicts[0].verdict, result.verdicts[0].number) == ("not supported", pytest.approx(1))


def test_chosen_experiments_are_run_and_no_others():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = attribute(model, dictionary, PROMPT, ["red"])

    result = assay(model, dictionary, graph, experiments=["edges"])

    assert result.edges and not result.ablations and not result.subsets
    assert result.registration["experiments"] == ["edges"]
    with pytest.raises(BadOption, match="no experiment 'edge'; there are ablations"):
        assay(model, dictionary, graph, experiments=["edge"])
