"""The assay on a model whose answer is computed by two neurons that were put there: it says so, and can say no."""

from dataclasses import replace
from pathlib import Path
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
    return plant(tmp_path_factory.mktemp("planted"), 4.0)


def plant(folder: Path, strength: float) -> Model:
    """A random GPT-2 in which all other neurons write nothing. strength: of what the first writes."""
    for path in folder_of("gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    blocks, words = model.transformer.h, model.transformer.wte.weight
    with torch.no_grad():
        for block in blocks:
            block.mlp.c_proj.weight.zero_()
        blocks[0].mlp.c_proj.weight[5] = strength * blocks[2].mlp.c_fc.weight[:, 5]
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


def test_the_group_that_answers_matters_the_one_that_feeds_it_moves_it_and_idle_ones_do_neither(tmp_path: Path):
    model = plant(tmp_path, -30.0)
    graph = attribute(model, Neurons(model), PROMPT, ["dog"])
    nodes = graph.nodes
    idle = [row for row in nodes.where("neuron").tolist() if (nodes.layer[row], nodes.feature[row]) not in PLANTED]
    groups = {"feeding": ["L0/5"], "answering": ["L2/5"], "idle": idle[:3], "idle too": idle[-3:]}

    result = assay(model, Neurons(model), graph, experiments=["groups"], groups=groups)

    verdicts = {each.claim: each.verdict for each in result.verdicts}
    matters = {
        name: verdicts[f"group {name} matters to the answer more than random groups as large"] for name in groups
    }
    assert matters["answering"] == "supported"
    assert matters["idle"] == matters["idle too"] == "not supported"
    assert verdicts["the graph predicts what ablating group answering does"] == "supported"
    assert verdicts["the graph predicts what ablating group idle does"] == "untested"  # nothing was said, nothing came
    arrows = {claim.split(":")[0]: verdict for claim, verdict in verdicts.items() if "→" in claim}
    assert arrows["feeding → answering"] == "supported"
    assert "supported" not in [verdict for arrow, verdict in arrows.items() if arrow.startswith("idle")]


def said(result: Assay, claim: str, ablation: str) -> str:
    """The verdict on one claim about the whole graph."""
    (verdict,) = [each.verdict for each in result.verdicts if f"are {claim} ({ablation} ablation" in each.claim]
    return verdict
