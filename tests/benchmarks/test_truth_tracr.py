"""Truths from a folder of transformers compiled with Tracr."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.truth import TRUTHS, load_truths
from benchmarks.truth.judging import judge
from benchmarks.truth.tracr import load_truth
from circuits.attribution.exact_edges import patch_every_edge
from circuits.components.ablations import ABLATIONS
from circuits.components.components import connected
from circuits.components.edge_scores import components_of, read_logits

FOLDER = Path(__file__).parents[3] / "shared" / "truth"
PROGRAMS = ["hist", "hist_soft", "induction", "reverse", "shift1", "sort", "sort_unique_soft", "xproportion"]
needs_truth = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there: Tracr's programs untested")


def save(truth, folder):
    """A truth of ours as such a folder holds one."""
    transformer, (layer,) = truth.transformer, truth.transformer.layers
    weights = {
        "embed.W_E": transformer.W_E,
        "pos_embed.W_pos": transformer.W_pos,
        "unembed.W_U": transformer.W_U,
        "unembed.b_U": transformer.b_U,
        "blocks.0.attn.W_O": layer.W_O,
        "blocks.0.attn.b_O": torch.zeros(layer.W_O.shape[2]),
        "blocks.0.mlp.W_in": layer.W_in,
        "blocks.0.mlp.b_in": layer.b_in,
        "blocks.0.mlp.W_out": layer.W_out,
        "blocks.0.mlp.b_out": torch.zeros(layer.W_O.shape[2]),
    }
    d_head = layer.W_O.shape[1]
    for name, each in zip("QKV", (layer.query, layer.key, layer.value), strict=True):
        scale = d_head**0.25 if name in "QK" else 1  # its scores are divided by the root
        weights |= {f"blocks.0.attn.W_{name}": scale * each.weight, f"blocks.0.attn.b_{name}": scale * each.bias}
    components = components_of(transformer)
    edges = [
        dict(zip(("src", "dst"), components.name(*edge).replace("input", "embed").split("->"), strict=True))
        for edge in np.argwhere(truth.found("zero")).tolist()
    ]
    ground = {
        "description": truth.about,
        "structural": [each | {"on_path": True} for each in [*edges, {"src": "pos_embed", "dst": "a0.h0<k>"}]],
        "effective_edges": {"zero": {"edges": edges}, "mean_positional": {"edges": edges[:1]}},
        "effective_nodes": {"zero": {"embed": 1.0, "a0.h0": 1.0}},
    }
    pairs = [
        {"clean_ids": clean, "corrupted_ids": corrupted, "correct_id": right, "incorrect_id": wrong, "position": at}
        for clean, corrupted, right, wrong, at in zip(
            *(each.tolist() for each in vars(truth.pairs).values()), strict=True
        )
    ]
    config = {"model_name": "previous", "n_layers": 1, "d_head": d_head, "attention_dir": "causal"}
    folder.mkdir()
    for name, value in {"config": config, "ground_truth": ground, "examples": {"pairs": pairs}}.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    save_file({name: each.contiguous() for name, each in weights.items()}, folder / "model.safetensors")


def test_a_truth_comes_back_from_its_folder(tmp_path):
    ours = TRUTHS["previous"]()
    save(ours, tmp_path / "before")

    (truth,) = load_truths(tmp_path)

    logits, again = (
        read_logits(each.transformer, each.transformer.run(each.transformer.embed(each.pairs.clean)).after, each.pairs)
        for each in (ours, truth)
    )
    assert (truth.name, truth.about) == ("before", ours.about)
    assert torch.allclose(logits, again)
    assert (truth.found("zero") == ours.found("zero")).all() and (truth.designed == ours.designed).all()
    assert truth.found("mean-by-position").sum() == 1
    assert (truth.found_nodes("zero") == ours.found_nodes("zero")).all()
    assert (truth.found_together("resample") == ours.found_together("resample")).all()


@needs_truth
@pytest.mark.parametrize("program", PROGRAMS)
def test_patching_every_edge_finds_the_program_and_nothing_else(program):
    found = next(judge(load_truth(FOLDER / program), methods=["exact"])).score

    assert (found.recall, found.ranking, found.precision) == (1.0, 1.0, 1.0)


@needs_truth
@pytest.mark.parametrize("program", ["reverse", "shift1", "sort", "xproportion"])
def test_patching_every_head_and_mlp_finds_those_of_the_program_and_nothing_else(program):
    found = next(judge(load_truth(FOLDER / program), methods=["exact-nodes"])).score

    assert (found.recall, found.ranking) == (1.0, 1.0)


@needs_truth
@pytest.mark.parametrize("program", ["hist", "shift1"])
def test_taking_edges_out_leaves_nothing_that_is_not_the_programs(program):
    found = next(judge(load_truth(FOLDER / program), methods=["acdc"])).score

    assert (found.recall, found.precision) == (1.0, 1.0)


@needs_truth
@pytest.mark.parametrize("ablation", ["resample", "zero", "mean", "mean-by-position"])
def test_what_patching_finds_under_each_ablation_is_what_matters_under_it(ablation):
    truth = load_truth(FOLDER / "hist")
    ablate = ABLATIONS[ablation](truth.transformer, [truth.pairs], lambda name, done, total: None)

    def moved(logits, pairs, clean, say):
        return -(logits - clean).abs().sum(-1)

    found = [
        patch_every_edge(
            truth.transformer, replace(truth.pairs, position=0 * truth.pairs.position + at), moved, ablation=ablate
        )
        for at in range(1, truth.pairs.clean.shape[1])
    ]

    assert ((torch.stack(found).sum(0).numpy() > 1e-3) == truth.found(ablation)).all()


@needs_truth
def test_a_compiled_transformer_gives_the_programs_answers():
    truth = load_truth(FOLDER / "sort")
    logits = read_logits(
        truth.transformer, truth.transformer.run(truth.transformer.embed(truth.pairs.clean)).after, truth.pairs
    )

    assert (logits.argmax(-1) == truth.pairs.right).all()
    assert (truth.metric(logits, truth.pairs, logits, lambda each: each) > 0.9).all()


@needs_truth
def test_gradients_through_a_saturated_pattern_miss_edges_that_points_between_the_prompts_find():
    truth = load_truth(FOLDER / "sort")
    found = {
        each.method: each.score for each in judge(truth, methods=["eap", "eap-ig", "random"]) if each.what == "edges"
    }

    assert found["eap"].recall == pytest.approx(3 / 7)
    assert found["eap-ig"].recall == 1.0
    assert found["random"].ranking < found["eap-ig"].ranking


@needs_truth
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_matters_under_any_ablation_was_designed(program):
    truth = load_truth(FOLDER / program)

    assert not any((truth.found(each) & ~truth.designed).any() for each in ("resample", "zero", "mean"))
    assert (connected(components_of(truth.transformer), truth.designed) <= truth.designed).all()
