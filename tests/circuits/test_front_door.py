"""Python's front doors meet nonsense by name: `attribute`, `trace`, `load_model`, `load_transcoders`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config

from circuits import attribute, load_model, load_transcoders, trace
from circuits.errors import BadOption, BadPrompt, BadTarget, UnfitTranscoders, UnknownModel, UnknownTranscoders
from circuits.hub.published import SHIPPED
from tests.circuits.worlds import dictionary_of, folder_of, model_of, native_of


@pytest.fixture
def unchecked():
    """Arguments of any type get in, as they do for a user."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "prompt",
    [None, True, 1.5, -1, {}, b"a", [1.0], [True], [[1, 2]], [("a", "red")], ["a"], [None], [-1], [10**30], "a\ud800"],
)
def test_a_prompt_that_is_none_is_refused_by_name(prompt: Any):
    model = model_of("llama")
    for enter in (attribute, trace):
        with pytest.raises(BadPrompt):
            enter(model, dictionary_of(model, "neurons"), prompt)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "targets",
    [5, True, {}, {"red"}, np.array(["red"]), [None], [True], [1.5], [-1], [b"red"], [()], [("red",)], [("red", None)]],
)
def test_targets_that_are_none_are_refused_by_name(targets: Any):
    model = model_of("llama")
    with pytest.raises(BadTarget):
        attribute(model, dictionary_of(model, "neurons"), "a red", targets)


@pytest.mark.usefixtures("unchecked")
def test_other_nonsense_is_refused_by_name():
    model = model_of("llama")
    neurons = dictionary_of(model, "neurons")
    refused: dict[type[Exception], list[Any]] = {
        BadOption: [
            *(lambda o=o: attribute(model, neurons, "a", **o) for o in ({"max_logits": "5"}, {"max_logits": True})),
            *(lambda o=o: attribute(model, neurons, "a", **o) for o in ({"logit_mass": None}, {"logit_mass": "x"})),
            *(lambda o=o: attribute(model, neurons, "a", **o) for o in ({"max_features": "x"}, {"max_features": 2.5})),
            *(lambda o=o: attribute(model, neurons, "a", **o) for o in ({"method": None}, {"method": []})),
            *(lambda o=o: load_model(folder_of("llama"), **o) for o in ({"device": None}, {"dtype": torch.float32})),
            lambda: attribute("llama", neurons, "a"),
            lambda: attribute(model, "neurons", "a"),
            lambda: trace(model, None, "a"),
            lambda: load_transcoders("neurons", "llama"),
        ],
        UnknownModel: [lambda name=name: load_model(name) for name in (None, 5, "", ["world"], "\0", "x" * 300)],
        UnknownTranscoders: [lambda name=name: load_transcoders(name, model) for name in (None, 5, "")],
    }
    for error, calls in refused.items():
        for call in calls:
            with pytest.raises(error):
                call()


def test_a_set_is_called_by_where_it_is_however_it_was_named(monkeypatch: pytest.MonkeyPatch):
    model = load_model("world", device="cpu")
    monkeypatch.chdir(SHIPPED / "world")
    assert load_transcoders("per-layer@mlp_input", model, force=True).name == f"{SHIPPED}/world/per-layer@mlp_input"
    assert load_transcoders("world", model).name == "world"


def test_transcoders_are_refused_where_there_are_no_mlps():
    with pytest.raises(UnfitTranscoders, match=r"is attention alone: there are no MLPs that world could stand in for"):
        load_transcoders("world", native_of("attention-only"), force=True)
