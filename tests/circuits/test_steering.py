"""Steering against plainer ways to do it: runs of the whole text again, and settings spelled out."""

import pytest
import torch

from circuits import intervene, trace
from circuits.changes import Intervention, Patch
from circuits.errors import BadIntervention, BadOption
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
        inner.notes["2/11"] = {"label": "a red thing"}
        both = [Intervention(*place, value=1.0) for place in sorted([(layer, 2, unit), (2, 2, 11)])]
        assert sorted(read_setting("a red thing@2=1", run, inner), key=str) == sorted(both, key=str)
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
        ("L0/1@1=nan", "finite"),
        ("L0/1@9=0", "positions 0 to 4"),
        ("L0/1@3:9=0", "the prompt has positions 0 to 4; 2:5 are 2 to 4"),
        ("L0/1@3:2=0", "positions 0 to 4"),
        ("L0/1@=0", "reads NAME"),
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


def test_a_slice_is_each_of_its_positions_and_one_without_end_goes_on_in_what_is_said():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    layer, unit = int(run.layer[0]), int(run.unit[0])
    active = run.position[(run.layer == layer) & (run.unit == unit)].tolist()
    name = f"L{layer}/{unit}"

    def reads(text: str, groups: dict | None = None) -> list[Intervention]:
        return read_setting(text, run, dictionary, groups)

    assert reads("L2/5@1:3=2") == [Intervention(2, 1, 5, value=2.0), Intervention(2, 2, 5, value=2.0)]
    assert reads("L2/5@:3=2") == reads("L2/5@1:3=2")  # the dictionary leaves the first position alone
    assert reads("L2/5@3:=2") == [Intervention(2, 3, 5, value=2.0, onward=True)]
    assert reads(f"{name}@:=0x") == [Intervention(layer, 0, unit, 0.0, onward=True)]
    assert reads(f"{name}@1:5=0x") == [Intervention(layer, position, unit, 0.0) for position in active]
    assert reads("some=0x", {"some": [f"{name}@{active[0]}"]}) == [Intervention(layer, active[0], unit, 0.0)]
    assert reads("some=0x", {"some": [name]}) == [Intervention(layer, position, unit, 0.0) for position in active]


@pytest.mark.parametrize("kind", ["per-layer", "cross-layer"])
@pytest.mark.parametrize("mlps", ["frozen", "live"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_what_goes_on_is_set_in_every_word_that_is_said(family: str, mlps: str, kind: str):
    """Against the whole text run again for every word: each word's MLP outputs are held as its own run left them."""
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    first = 2
    units = [Intervention(layer, first, 7, value=3.0, onward=True) for layer in (0, 1)]
    last_held = {"per-layer": 0, "cross-layer": 2}[kind]

    steered = steer(model, dictionary, run, units, mlps=mlps, length=3)

    def write(to: int, held: dict[int, torch.Tensor], live: dict[int, torch.Tensor], new: range):
        def edit(out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            for position in new:
                at = out[0, position] if mlps == "live" else held[to][position]
                for unit in units:
                    if to in dictionary.written_layers(unit.layer) and to <= unit.layer + last_held:
                        now = (live if mlps == "live" else held_inputs)[unit.layer][position]
                        was = dictionary.activations(unit.layer, now)[unit.unit]
                        written = dictionary.writing(unit.layer, torch.tensor([unit.unit]), to)[0]
                        at = at + (3.0 - was) * written
                out[0, position] = at
                done[to][position] = at
            for position in range(len(text)):
                if position in done[to]:
                    out[0, position] = done[to][position]
            return out

        return edit

    layers = range(min(model.layers, 2 + last_held))
    done: dict[int, dict[int, torch.Tensor]] = {layer: {} for layer in layers}
    text = run.tokens.tolist()
    new = range(first, len(text))
    for said in steered.said_after:
        # What the text said so far leaves, the newest words untouched: their clean run.
        sites = [(name, layer) for layer in layers for name in ("mlp_input", "mlp_output")]
        keep = {("mlp_output", layer): _keep(done[layer]) for layer in layers}
        _, seen = model.run(torch.tensor([text]), read=sites, edit=keep)
        held = {layer: seen[("mlp_output", layer)][0] for layer in layers}
        held_inputs = {layer: seen[("mlp_input", layer)][0] for layer in layers}
        live: dict[int, torch.Tensor] = {}
        edits = {("mlp_output", layer): write(layer, held, live, new) for layer in layers}
        edits |= {("mlp_input", layer): _notice(live, layer) for layer in layers}
        logits, _ = model.run(torch.tensor([text]), edit=edits)
        assert int(logits[0, -1].argmax()) == said
        new = range(len(text), len(text) + 1)
        text.append(said)
    assert not torch.allclose(steered.after, steered.before, atol=1e-3)


def _notice(live: dict[int, torch.Tensor], layer: int):
    return lambda x: live.setdefault(layer, x[0])[None]


def _keep(done: dict[int, torch.Tensor]):
    def edit(out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        for position, value in done.items():
            out[0, position] = value
        return out

    return edit


def test_a_direction_goes_on_in_what_is_said():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    direction = tuple(torch.linspace(-2, 2, model.d_model).tolist())

    steered = steer(model, dictionary, run, [Patch("resid1", 3, direction=direction, onward=True)], length=3)

    def add(now: torch.Tensor) -> torch.Tensor:
        return torch.cat([now[:, :3], now[:, 3:] + now.new_tensor(direction)], dim=1)

    text = run.tokens.tolist()
    for said in steered.said_after:
        logits, _ = model.run(torch.tensor([text]), edit={("residual_pre", 1): add})
        assert int(logits[0, -1].argmax()) == said
        text.append(said)
