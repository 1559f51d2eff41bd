"""What a model takes as a prompt, a target, a name and a device, and what it says to everything else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from circuits import attribute, load_model
from circuits.errors import BadOption, BadPrompt, BadTarget, UnfaithfulModel, UnknownModel, UnsupportedModel
from circuits.goal import choose_goal
from circuits.model import Model
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary
from tests.circuits.worlds import dictionary_of, folder_of, model_of


def test_a_prompt_is_read_with_the_token_that_begins_every_text():
    model = model_of("llama")
    ids = model.tokenize("a red fox").tolist()
    assert model.texts(ids) == ["<bos>", "a", "red", "fox"]
    assert model.tokenize(ids).tolist() == ids


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ([], "empty"),
        ("a purple fox", "does not know 'purple'"),
        ("a rad fox", "Did you mean red"),
        ([1, 99], "from 0 to 11, found 99"),
        ("a " * 40, "41 tokens, .* reads at most 32"),
    ],
)
def test_a_bad_prompt_is_refused_with_the_reason(prompt, complaint: str):
    with pytest.raises(BadPrompt, match=complaint):
        model_of("llama").tokenize(prompt)


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        (["purple"], "a word it does not know"),
        (["RED"], "Did you mean red"),
        (["red fox"], "2 tokens"),
        ([("red", "red")], "same token"),
        (["red", "red"], "given twice"),
        ([99], "from 0 to 11"),
        ([], "list of tokens"),
        ("red", "list of tokens"),
    ],
)
def test_a_bad_target_is_refused_with_the_reason(targets, complaint: str):
    with pytest.raises(BadTarget, match=complaint):
        choose_goal(*traced("llama"), targets)


def test_the_likeliest_tokens_are_taken_until_they_reach_the_mass():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.1, 0.04, *[0.06 / 8] * 8], dtype=torch.float64))
    model, dictionary, run = traced("llama")
    run = replace(run, logits=logits.expand(len(run.tokens), -1))

    assert choose_goal(model, dictionary, run, logit_mass=0.8).right == [0, 1]
    assert choose_goal(model, dictionary, run, logit_mass=0.81).right == [0, 1, 2]
    assert choose_goal(model, dictionary, run, max_logits=1).right == [0]
    assert sum(choose_goal(model, dictionary, run, logit_mass=1.0, max_logits=12).weight) == pytest.approx(1)


def traced(family: str) -> tuple[Model, Dictionary, Trace]:
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    return model, dictionary, trace(model, dictionary, "a red fox runs")


def test_an_unknown_model_is_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnknownModel, match="not among the shipped"):
        load_model("nobody/nothing")
    with pytest.raises(UnknownModel, match=r"a folder with config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnknownModel, match="cannot be loaded"):
        load_model(tmp_path)


def test_an_architecture_nobody_checked_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"architectures": ["OPTForCausalLM"], "model_type": "opt"}')
    with pytest.raises(UnsupportedModel, match="OPTForCausalLM; the families known are"):
        load_model(tmp_path)


def test_weights_that_are_cut_short_are_refused(tmp_path: Path):
    for file in folder_of("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UnknownModel, match="cannot be loaded"):
        load_model(tmp_path)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(BadOption, match="float32, float64"):
        load_model(folder_of("llama"), dtype="int8")
    with pytest.raises(BadOption, match="torch knows no device 'tape'"):
        load_model(folder_of("llama"), device="tape")
    with pytest.raises(BadOption, match="'meta' cannot be used here"):
        load_model(folder_of("llama"), device="meta")
    with pytest.raises(BadOption, match="max_features must be at least 1"):
        attribute(model_of("llama"), dictionary_of(model_of("llama"), "neurons"), "a", max_features=0)


def test_a_folder_is_called_by_where_it_is_however_it_was_named(monkeypatch: pytest.MonkeyPatch):
    folder = folder_of("llama")
    monkeypatch.chdir(folder.parent)
    assert load_model(folder.name, device="cpu").name == str(folder)
    with pytest.raises(UnknownModel, match="found ''"):
        load_model("")


def test_a_model_whose_frozen_copy_is_wrong_is_refused():
    """As if a family's gains were stored minus one and nobody had said so."""
    model = load_model(folder_of("gemma2"), device="cpu", dtype="float64")
    model.family = replace(model.family, gain_offset=0.0)
    with pytest.raises(UnfaithfulModel, match="misses its logits"):
        attribute(model, dictionary_of(model, "per-layer"), "a red fox")


def test_the_content_hash_changes_with_any_weight():
    model = load_model(folder_of("gpt2"), device="cpu")
    before = model.content_hash
    del model.__dict__["content_hash"]
    model._bridge.original_model.transformer.wte.weight.data[0, 0] += 1e-3
    assert model.content_hash != before
