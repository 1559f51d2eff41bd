"""Steering against plainer ways to do it: runs of the whole text again, and settings spelled out."""

import pytest
import torch

from circuits import intervene, trace
from circuits.errors import BadIntervention, BadOption
from circuits.interventions import Intervention
from circuits.steering import read_setting, steer
from circuits.transcoders.transcoders import Transcoders
from tests.circuits.worlds import dictionary_of, model_of

PROMPT = "a red fox runs"


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_what_is_generated_reads_the_steered_prompt_and_is_live(family: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    length = len(run.tokens)
    layer, position, unit = 1, 2, int(run.unit[(run.layer == 1) & (run.position == 2)][0])

    steered = steer(model, dictionary, run, [Intervention(layer, position, unit, -8.0)], length=3)

    activation = float(run.activation[(run.layer == layer) & (run.position == position) & (run.unit == unit)])
    change = -9.0 * activation * dictionary.writing(layer, torch.tensor([unit]), layer)[0]

    def edit(live: torch.Tensor) -> torch.Tensor:
        out = live.clone()
        out[0, :length] = run.written[layer]
        out[0, position] += change
        return out

    text = run.tokens.tolist()
    for said in steered.said_after:
        logits, _ = model.run(torch.tensor([text]), edit={("mlp_output", layer): edit})
        if len(text) == length:
            torch.testing.assert_close(logits[0, -1], steered.after, rtol=1e-9, atol=1e-9)
        assert int(logits[0, -1].argmax()) == said
        text.append(said)
    assert len(steered.said_before) == 3
    torch.testing.assert_close(steered.before, run.logits[-1], rtol=1e-9, atol=1e-9)


def test_a_value_sets_what_a_factor_would_and_wakes_what_is_silent():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    place = (int(run.layer[0]), int(run.position[0]), int(run.unit[0]))

    both = [[Intervention(*place, factor=3.0)], [Intervention(*place, value=3.0 * float(run.activation[0]))]]
    factor, value = intervene(model, dictionary, run, both)

    torch.testing.assert_close(factor, value)
    silent = next(u for u in range(12) if not ((run.layer == 0) & (run.position == 1) & (run.unit == u)).any())
    assert not torch.allclose(
        intervene(model, dictionary, run, [[Intervention(0, 1, silent, value=5.0)]])[0], run.logits
    )
    for wrong, why in (
        (Intervention(0, 1, 12, value=1.0), "units 0 to 11"),
        (Intervention(0, 0, 1, value=1.0), "from position 1"),
    ):
        with pytest.raises(BadIntervention, match=why):
            intervene(model, dictionary, run, [[wrong]])


def test_settings_name_units_by_number_or_label_at_a_place_or_wherever_they_are_active():
    model = model_of("llama")
    inner = dictionary_of(model, "per-layer")
    assert isinstance(inner, Transcoders)
    run = trace(model, inner, PROMPT)
    last = len(run.tokens) - 1
    layer, unit = int(run.layer[0]), int(run.unit[0])
    places = run.position[(run.layer == layer) & (run.unit == unit)].tolist()
    inner.notes[f"{layer}/{unit}"] = {"label": "a red thing"}

    try:
        assert read_setting("L2/5@last=0", run, inner) == [Intervention(2, last, 5, value=0.0)]
        assert read_setting(f"L{layer}/{unit}=-1x", run, inner) == [Intervention(layer, p, unit, -1.0) for p in places]
        assert read_setting("a red thing=2.5", run, inner) == [Intervention(layer, p, unit, value=2.5) for p in places]
        with pytest.raises(BadIntervention, match="a red thing"):
            read_setting("a blue thing=0", run, inner)
    finally:
        inner.notes.clear()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("L0/1", "reads NAME"),
        ("L0/1@last=", "reads NAME"),
        ("L0/1@last=much", "is no number"),
        ("L0/1@9=nan", "finite"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told(text: str, why: str):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)

    with pytest.raises(BadIntervention, match=why):
        intervene(model, dictionary, run, [read_setting(text, run, dictionary)])
    with pytest.raises(BadOption, match="0 or more"):
        steer(model, dictionary, run, [], length=-1)
