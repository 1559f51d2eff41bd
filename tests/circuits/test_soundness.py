"""What a model must pass when it is loaded, and that it is asked once."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from circuits import load_model, soundness
from circuits.errors import UnfaithfulModel
from circuits.families import FAMILIES
from circuits.model import Model
from tests.circuits.worlds import folder_of


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_family_that_is_recorded_wrongly_is_refused_with_the_figure(monkeypatch: pytest.MonkeyPatch):
    """As if its gains were stored minus one and nobody had said so; also where it passed before, recorded rightly."""
    load_model(folder_of("gemma2"), device="cpu")
    monkeypatch.setitem(FAMILIES, "Gemma2ForCausalLM", replace(FAMILIES["Gemma2ForCausalLM"], gain_offset=0.0))
    with pytest.raises(UnfaithfulModel, match=r"misses its logits by \d.* of the largest"):
        load_model(folder_of("gemma2"), device="cpu")


def test_a_model_in_which_changes_do_not_count_is_refused(monkeypatch: pytest.MonkeyPatch):
    """As GPT-Neo, whose patterns can be read and changed, and run on as they were."""
    plain = Model.run

    def deaf(self, tokens, *, read=(), edit=None, past=None):
        heard = {site: change for site, change in (edit or {}).items() if site[0] != "mixed"}
        return plain(self, tokens, read=read, edit=heard, past=past)

    monkeypatch.setattr(Model, "run", deaf)
    with pytest.raises(UnfaithfulModel, match="moves its logits otherwise than its frozen copy says"):
        load_model(folder_of("gpt_neo"), device="cpu")


def test_an_edge_that_is_wrong_refuses_the_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("circuits.sweep._pass", lambda *_, **__: None)  # as if attention carried nothing
    with pytest.raises(UnfaithfulModel, match="cannot be traced"):
        load_model(folder_of("llama"), device="cpu")


def test_a_model_that_passed_is_not_asked_again(monkeypatch: pytest.MonkeyPatch):
    asked = []
    examine = soundness._examine
    monkeypatch.setattr(soundness, "_examine", lambda model: (asked.append(model.dtype), examine(model)))
    for dtype in ("float32", "float32", "float64", "float64"):
        load_model(folder_of("llama"), device="cpu", dtype=dtype)
    assert len(asked) == 2


def test_where_nothing_can_be_remembered_it_is_asked_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "circuit-assay").write_text("a file where a folder is wanted")
    asked = []
    monkeypatch.setattr(soundness, "_examine", asked.append)
    for _ in range(2):
        load_model(folder_of("llama"), device="cpu")
    assert len(asked) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_whose_weights_are_no_numbers_is_told_so(value: float):
    given = AutoModelForCausalLM.from_pretrained(folder_of("llama"))
    given.model.layers[1].mlp.down_proj.weight.data[0, 0] = value

    with pytest.raises(UnfaithfulModel, match="says no numbers"):
        load_model(given, device="cpu")
