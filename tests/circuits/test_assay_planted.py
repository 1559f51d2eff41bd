"""The assay on a model whose answer is computed by two neurons that were put there: it says so, and can say no."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from circuits import assay, attribute, load_model
from circuits.assaying.bench import strongest_units
from circuits.model import Model
from circuits.transcoders.neurons import Neurons
from graphs.assays import Assay
from graphs.graph import AttributionGraph
from graphs.pruning import prune
from tests.circuits.worlds import WORDS, folder_of

PLANTED = {(0, 5), (2, 5)}  # (layer, neuron): the first writes what the second reads, the second writes the answer
PROMPT = "a red fox runs"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random GPT-2 in which all other neurons write nothing."""
    folder = tmp_path_factory.mktemp("planted")
    for path in folder_of("gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    blocks, words = model.transformer.h, model.transformer.wte.weight
    with torch.no_grad():
        for block in blocks:
            block.mlp.c_proj.weight.zero_()
        blocks[0].mlp.c_proj.weight[5] = 4 * blocks[2].mlp.c_fc.weight[:, 5]
        blocks[2].mlp.c_proj.weight[5] = 8 * (words[WORDS.index("dog")] - words.mean(0))
    model.save_pretrained(folder)
    return load_model(folder, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def whole(planted: Model) -> AttributionGraph:
    return attribute(planted, Neurons(planted), PROMPT, ["dog"])


def test_a_graph_of_the_planted_neurons_is_enough_and_needed(planted: Model, whole: AttributionGraph):
    graph = prune(whole, nodes=0.99)

    result = assay(planted, Neurons(planted), graph)

    units = graph.nodes.where("neuron")
    assert set(zip(graph.nodes.layer[units].tolist(), graph.nodes.feature[units].tolist(), strict=True)) == PLANTED
    assert said(result, "enough", "zero") == said(result, "needed", "zero") == "supported"
    # The second neuron says much the same of every prompt: its mean in its place takes nothing away.
    assert said(result, "enough", "mean") == said(result, "needed", "mean") == "untested"


def test_with_an_idle_neuron_in_place_of_the_strongest_it_is_neither(planted: Model, whole: AttributionGraph):
    graph = prune(whole, nodes=0.99)
    nodes, key = graph.nodes, int(strongest_units(graph)[0])
    feature = nodes.feature.copy()
    feature[key] = 6

    result = assay(planted, Neurons(planted), replace(graph, nodes=nodes.with_columns(feature=feature)))

    assert (nodes.layer[key], nodes.position[key]) == (2, len(graph.tokens) - 1)
    assert said(result, "enough", "zero") == said(result, "needed", "zero") == "not supported"


def said(result: Assay, claim: str, ablation: str) -> str:
    """The verdict on one claim about the whole graph."""
    (verdict,) = [each.verdict for each in result.verdicts if f"are {claim} ({ablation} ablation" in each.claim]
    return verdict
