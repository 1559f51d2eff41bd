"""Interventions in the real model against plainer ways to do the same thing, and their complaints."""

import json

import numpy as np
import pytest
import torch

from benchmarks.peers.hooked_models import without_float32
from circuits import attribute, intervene, trace
from circuits.changes import ERROR, Intervention, Patch, Supernode, from_record, to_record
from circuits.clean_outputs import missed
from circuits.clean_runs import together
from circuits.errors import BadIntervention, BadOption
from circuits.holding import hold_attention
from circuits.interventions import read_under
from tests.circuits.worlds import EXPERTS, FAMILIES, dictionary_of, model_of, native_of

PROMPT = "a red fox runs"
LONG = "a red fox runs here now there a blue dog sleeps"


def some_units(run, count: int = 6) -> list[Intervention]:
    chosen = np.linspace(0, len(run.layer) - 1, count).astype(int)
    return [Intervention(int(run.layer[i]), int(run.position[i]), int(run.unit[i])) for i in chosen]


@pytest.mark.parametrize("attention", ["live", "frozen"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_factor_of_one_changes_nothing(family: str, attention: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "cross-layer")
    run = trace(model, dictionary, PROMPT)
    untouched = [[Intervention(each.layer, each.position, each.unit, 1.0)] for each in some_units(run)]

    logits = intervene(model, dictionary, run, untouched, attention=attention)

    torch.testing.assert_close(logits, run.logits.expand_as(logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_many_at_once_are_what_each_is_alone(family: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    units = some_units(run)

    at_once = intervene(model, dictionary, run, [[unit] for unit in units])

    for row, unit in enumerate(units):
        torch.testing.assert_close(at_once[row], intervene(model, dictionary, run, [[unit]])[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_ablating_a_last_layer_neuron_is_the_model_without_that_neuron(family: str):
    model = model_of(family)
    neurons = dictionary_of(model, "neurons")
    last, unit = model.layers - 1, 3
    run = trace(model, neurons, PROMPT)

    ablated = intervene(
        model, neurons, run, [[Intervention(last, position, unit) for position in range(len(run.tokens))]]
    )

    x = run.inputs[last]
    acts = neurons.activations(last, x)
    acts[:, unit] = 0
    plain = neurons.decode(last, acts, last) + neurons.bias(last)
    logits, _ = model.run(run.tokens[None], edit={("mlp_raw", last): lambda _: plain[None]})
    torch.testing.assert_close(ablated, logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["per-layer", "neurons"])
def test_with_attention_held_a_last_layer_ablation_does_what_its_edge_says(kind: str):
    """After the last MLP only the final norm is left: with its scale held too, the change is the edge's weight."""
    model = model_of("llama")
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT)
    nodes = graph.nodes
    logit = len(nodes) - 1
    edges = np.flatnonzero((graph.target == logit) & (nodes.layer[graph.source] == model.layers - 1))
    edge = max(
        (e for e in edges if nodes.kind[graph.source[e]] in ("feature", "neuron")), key=lambda e: abs(graph.weight[e])
    )
    source = graph.source[edge]

    one = Intervention(model.layers - 1, int(nodes.position[source]), int(nodes.feature[source]))
    delta = -dictionary.writing(one.layer, torch.tensor([one.unit]), one.layer)[0] * float(nodes.activation[source])
    norm = run.frozen.final_norm
    change = (norm.gain * delta / norm.scale[one.position]) @ run.frozen.unembedding[:, int(nodes.feature[logit])]

    np.testing.assert_allclose(float(change), -graph.weight[edge], rtol=1e-9)


def test_holding_attention_keeps_what_the_patterns_were():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    early = next(unit for unit in some_units(run) if unit.layer == 0)

    live = intervene(model, dictionary, run, [[Intervention(early.layer, early.position, early.unit, -5.0)]])
    held = intervene(
        model, dictionary, run, [[Intervention(early.layer, early.position, early.unit, -5.0)]], attention="frozen"
    )

    assert not torch.allclose(live, held, atol=1e-4)
    before = early.position
    torch.testing.assert_close(live[0, :before], run.logits[:before])  # causality: nothing earlier moves


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Intervention(0, 1, 999), "not active there"),
        (Intervention(9, 1, 0), "has layers 0 to 2"),
        (Intervention(0, 40, 0), "positions 0 to"),
        (Intervention(0, -1, 0), "positions 0 to"),
        (Intervention(0, 1, 0, float("nan")), "finite number"),
        (Intervention(0, 1, 0, float("inf")), "finite number"),
    ],
)
def test_what_is_not_there_cannot_be_changed(wrong: Intervention, complaint: str):
    model = model_of("llama")
    with pytest.raises(BadIntervention, match=complaint):
        intervene(model, dictionary_of(model, "per-layer"), PROMPT, [[wrong]])


def test_one_unit_cannot_be_given_two_factors_in_one_set_but_can_in_two():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    unit = some_units(run)[0]
    half = Intervention(unit.layer, unit.position, unit.unit, 0.5)

    with pytest.raises(BadIntervention, match=r"same unit twice: .* × 0 and .* × 0\.5"):
        intervene(model, dictionary, run, [[unit, half]])
    assert len(intervene(model, dictionary, run, [[unit], [half]])) == 2


def plain_edits(run, dictionary, change: Intervention) -> dict:
    """One unit ablated in a whole run of the model, by a hook on its own layer's MLP output."""
    here = (run.layer == change.layer) & (run.position == change.position) & (run.unit == change.unit)
    written = dictionary.writing(change.layer, torch.tensor([change.unit]), change.layer)[0]

    def edit(out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, change.position] -= run.activation[here] * written
        return out

    return {(dictionary.at(change.layer).writes, change.layer): edit}


@pytest.mark.parametrize("attention", ["live", "frozen"])
@pytest.mark.parametrize("family", [*FAMILIES, *EXPERTS])
def test_what_is_not_run_again_is_what_it_was(family: str, attention: str):
    """Sliding windows of 3 or 4, rotations and masks included: runs begun anywhere are whole runs."""
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, LONG)
    units = some_units(run, 24)

    at_once = intervene(model, dictionary, run, [[unit] for unit in units], attention=attention)

    assert len({unit.layer for unit in units}) == model.layers
    held = hold_attention(run) if attention == "frozen" else {}
    for row, unit in enumerate(units):
        whole, _ = model.run(run.tokens[None], edit=held | plain_edits(run, dictionary, unit))
        torch.testing.assert_close(at_once[row], whole[0], rtol=1e-6, atol=1e-6)


def test_a_model_that_keeps_no_keys_and_values_still_skips_layers():
    model = native_of("plain")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, [1, 4, 7, 5, 2])
    units = some_units(run)

    at_once = intervene(model, dictionary, run, [[unit] for unit in units])

    for row, unit in enumerate(units):
        whole, _ = model.run(run.tokens[None], edit=plain_edits(run, dictionary, unit))
        torch.testing.assert_close(at_once[row], whole[0], rtol=1e-6, atol=1e-6)


def test_layers_below_the_first_change_and_positions_before_it_are_not_run():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, LONG)
    intervene(model, dictionary, run, [[some_units(run)[-1]]], read=("mlp_output", 1))  # the clean run is kept
    ran: list[tuple[int, tuple[int, ...]]] = []
    watches = [
        block._modules["_original_component"].register_forward_pre_hook(
            lambda _, given, layer=layer: ran.append((layer, tuple(given[0].shape[:2])))
        )
        for layer, block in enumerate(model.network.model.layers)
    ]
    late = [i for i in range(len(run.layer)) if int(run.layer[i]) == 1 and int(run.position[i]) >= len(run.tokens) - 2]
    units = [[Intervention(1, int(run.position[i]), int(run.unit[i]))] for i in late]

    intervene(model, dictionary, run, units)
    intervene(model, dictionary, run, units[:1], read=("mlp_output", 1))
    for watch in watches:
        watch.remove()

    left = len(run.tokens) - int(run.position[late[0]])
    assert ran == [(2, (len(units), 2)), (1, (1, left)), (2, (1, left))]  # what layer 1 adds is known; to read it, not


@pytest.mark.parametrize("writes", ["mlp_output", "mlp_raw"])
def test_what_is_read_inside_the_changed_layer_is_what_passes_there(writes: str):
    model = model_of("gemma2")
    dictionary = dictionary_of(model, "skip", writes=writes)
    run = trace(model, dictionary, PROMPT)
    units = some_units(run)
    sites = [(name, layer) for name in ("mlp_output", "mlp_input", "residual_pre") for layer in range(3)]

    for read in ([("logits", 0)], [("mlp_input", 2), ("residual_pre", 1)], sites):
        seen = read_under(model, dictionary, run, [[unit] for unit in units], read)
        for row, unit in enumerate(units):
            _, plain = model.run(run.tokens[None], read=read, edit=plain_edits(run, dictionary, unit))
            for site in read:
                torch.testing.assert_close(seen[site][row], plain[site][0], rtol=1e-6, atol=1e-6)


def test_runs_that_begin_alike_go_side_by_side_and_no_more_than_the_most():
    starts = [(1, 5), (0, 2), (1, 5), (0, 2), (1, 0), (1, 5)]

    batches = list(together(starts, layers=3, length=6, most=2))

    assert sorted(row for _, rows in batches for row in rows) == list(range(6))
    assert all(len(rows) <= 2 for _, rows in batches)
    assert all(start <= starts[row] and start[1] <= starts[row][1] for start, rows in batches for row in rows)
    apart = list(together([(0, 0)] * 40 + [(11, 90)] * 40, layers=12, length=100, most=100))
    assert [start for start, _ in apart] == [(0, 0), (11, 90)]
    assert [start for start, _ in together([(0, 0), (0, 1)], layers=12, length=4, most=100)] == [(0, 0)]


@pytest.mark.parametrize("kind", ["per-layer", "skip", "cross-layer"])
def test_with_all_held_a_unit_moves_the_logits_by_its_edge(kind: str):
    model = model_of("gemma2")
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT)
    nodes = graph.nodes
    logit = int(nodes.where("logit")[0])
    into = {int(graph.source[e]): graph.weight[e] for e in np.flatnonzero(graph.target == logit)}
    units = [row for row in nodes.where("feature") if row in into]
    sets = [[Intervention(int(nodes.layer[r]), int(nodes.position[r]), int(nodes.feature[r]))] for r in units]

    logits = intervene(model, dictionary, run, sets, window=range(model.layers), attention="frozen", norms="frozen")[
        :, -1
    ]

    moved = (logits - run.logits[-1]) - (logits - run.logits[-1]).mean(-1, keepdim=True)
    np.testing.assert_allclose(moved[:, int(nodes.feature[logit])], [-into[r] for r in units], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["per-layer", "skip", "cross-layer"])
def test_rebuilt_mlps_are_the_dictionary_run_forward_with_the_errors_it_had(kind: str):
    model = model_of("llama")
    dictionary = dictionary_of(model, kind)
    with without_float32():
        run = trace(model, dictionary, PROMPT)
        chosen = next(unit for unit in some_units(run) if unit.layer == 0)
        rebuilt = intervene(model, dictionary, run, [[chosen]], mlps="rebuilt", window=range(model.layers))[0]

    acts: list[torch.Tensor] = []
    live: dict[int, torch.Tensor] = {}
    silent = torch.arange(len(run.tokens)) < 1

    def read(layer: int):
        def edit(x: torch.Tensor) -> torch.Tensor:
            live[layer] = x
            found = dictionary.activations(layer, x[0]) * ~silent[:, None]
            if layer == chosen.layer:
                found[chosen.position, chosen.unit] = 0
            acts.append(found)
            return x

        return edit

    def write(layer: int):
        def edit(_: torch.Tensor) -> torch.Tensor:
            out = dictionary.bias(layer) + missed(dictionary, run, layer)
            for source in range(layer + 1):
                if layer in dictionary.written_layers(source):
                    out = out + dictionary.decode(source, acts[source], layer)
            skip = dictionary.skip(layer)
            out = out if skip is None else out + live[layer][0] @ skip.T
            return torch.where(silent[:, None], run.written[layer], out)[None]

        return edit

    edits = {("mlp_input", layer): read(layer) for layer in range(model.layers)}
    edits |= {("mlp_output", layer): write(layer) for layer in range(model.layers)}
    with without_float32():
        plain, _ = model.run(run.tokens[None], edit=edits)
    torch.testing.assert_close(rebuilt, plain[0], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(rebuilt, run.logits, atol=1e-4)


def test_live_mlps_answer_earlier_changes_and_units_are_set_against_what_they_are_by_then():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    at = [int(torch.nonzero((run.layer == layer) & (run.position == 2))[0]) for layer in (0, 1)]
    first, second = (
        Intervention(int(run.layer[i]), 2, int(run.unit[i]), value=4 * float(run.activation[i])) for i in at
    )

    logits, inputs = (
        read_under(model, dictionary, run, [[first, second]], [site], mlps="live")[site][0]
        for site in (("logits", 0), ("mlp_input", 1))
    )

    def add(change: Intervention, was: float):
        def edit(out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            written = dictionary.writing(change.layer, torch.tensor([change.unit]), change.layer)[0]
            out[:, 2] += ((change.value or 0.0) - was) * written
            return out

        return edit

    by_then = float(dictionary.activations(1, inputs[2])[second.unit])
    edits = {("mlp_output", 0): add(first, float(run.activation[at[0]])), ("mlp_output", 1): add(second, by_then)}
    plain, _ = model.run(run.tokens[None], edit=edits)
    assert abs(by_then - float(run.activation[at[1]])) > 1e-3
    torch.testing.assert_close(logits, plain[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_components_take_what_they_are_given(family: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    other = tuple(model.tokenize("the blue dog sleeps".replace("the", "a")).tolist())
    swapped = [*run.tokens.tolist()]
    swapped[2] = other[2]
    direction = tuple(torch.linspace(-1, 1, model.d_model).tolist())
    sites = [("mixed", 1), ("mlp_output", 1)]
    _, there = model.run(torch.tensor([other]), read=sites)

    def head(now: torch.Tensor) -> torch.Tensor:
        return torch.cat([now[:, :, :1], there[("mixed", 1)][:, :, 1:2], now[:, :, 2:]], dim=2)

    def mlp(now: torch.Tensor) -> torch.Tensor:
        return torch.cat([now[:, :3], 0 * now[:, 3:4], now[:, 4:]], dim=1)

    def stream(now: torch.Tensor) -> torch.Tensor:
        return torch.cat([now[:, :1], now[:, 1:2] + now.new_tensor(direction), now[:, 2:]], dim=1)

    sets = [
        [Patch("input", 2, prompts=(tuple(swapped),))],
        [Patch("a1.h1", prompts=(other,))],
        [Patch("m1", 3)],
        [Patch("resid2", 1, direction=direction)],
        [Supernode("both", (Patch("a1.h1", prompts=(other,)), Patch("resid2", 1, direction=direction)))],
    ]
    plain = [
        model.run(torch.tensor([swapped]))[0],
        model.run(run.tokens[None], edit={("mixed", 1): head})[0],
        model.run(run.tokens[None], edit={("mlp_output", 1): mlp})[0],
        model.run(run.tokens[None], edit={("residual_pre", 2): stream})[0],
        model.run(run.tokens[None], edit={("mixed", 1): head, ("residual_pre", 2): stream})[0],
    ]
    torch.testing.assert_close(intervene(model, dictionary, run, sets), torch.cat(plain), rtol=1e-6, atol=1e-6)


def test_a_unit_takes_its_value_on_another_prompt_or_its_mean_on_several():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    others = tuple(tuple(model.tokenize(text).tolist()) for text in ("a blue dog sleeps", "here runs a fox"))
    there = [trace(model, dictionary, prompt) for prompt in others]
    values = [float(dictionary.activations(1, each.inputs[1])[2, 5]) for each in there]
    assert values[0] != values[1]

    given = intervene(
        model, dictionary, run, [[Intervention(1, 2, 5, prompts=others[:1])], [Intervention(1, 2, 5, prompts=others)]]
    )

    told = [[Intervention(1, 2, 5, value=value)] for value in (values[0], sum(values) / 2)]
    torch.testing.assert_close(given, intervene(model, dictionary, run, told))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Intervention(2, 3, 544), "L2/544@3 × 0"),
        (Intervention(2, 3, 544, value=1.5, onward=True), "L2/544@3: = 1.5"),
        (Intervention(2, 3, ERROR, 0.5), "error L2@3 × 0.5"),
        (Intervention(2, 3, 544, prompts=((1, 2), (3, 4))), "L2/544@3 = its mean over 2 prompts"),
        (Patch("a2.h1", 3, prompts=((1, 2),)), "a2.h1@3 as on another prompt"),
        (Patch("m2"), "m2 × 0"),
        (Patch("resid0", 1, direction=(3.0, 4.0)), "resid0@1 + a direction of length 5"),
        (Supernode("texas", (Intervention(2, 3, 544, -1.0), Patch("m2"))), "texas (L2/544@3 × -1, m2 × 0)"),
    ],
)
def test_a_change_prints_itself_and_comes_back_from_json(change, text: str):
    assert str(change) == text
    assert from_record(json.loads(json.dumps(to_record(change)))) == change


@pytest.mark.parametrize(
    "record", [{}, {"kind": "hook"}, {"kind": "unit", "layer": 1}, {"kind": "component", "component": "m1", "by": 2}]
)
def test_a_record_of_something_else_is_told(record: dict):
    with pytest.raises(BadIntervention, match="is no intervention"):
        from_record(record)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Patch("a3.h0", 1), "there is no 'a3.h0'; components are input, a0.h0 to a2.h3"),
        (Patch("a0.h4", 1), "there is no 'a0.h4'"),
        (Patch("mlp0", 1), "there is no 'mlp0'"),
        (Patch("m01", 1), "there is no 'm01'"),
        (Patch("a0.h٠", 1), "there is no 'a0.h٠'"),
        (Patch("m1", 9), "positions 0 to 4"),
        (Patch("m1", 1, float("nan")), "finite number"),
        (Patch("m1", 1, direction=(1.0, float("inf"))), "has 16 dimensions, the direction 2"),
        (Patch("a1.h1", 1, direction=(float("inf"),) * 6), "finite numbers"),
        (Patch("m1", 1, prompts=((1, 2),), direction=(0.0,) * 16), "not both"),
        (Patch("m1", prompts=((1, 2),)), "has 2 tokens, this one 5"),
        (Patch("m1", 3, prompts=((1, 2),)), "positions 0 to 1"),
        (Patch("m1", 1, prompts=((1, 2),), onward=True), "one by one"),
        (Intervention(0, 1, 99, prompts=((1, 2),)), "units 0 to 11"),
        (Intervention(0, 1, ERROR, prompts=((1, 2),)), "a vector"),
        (Intervention(0, 1, ERROR, onward=True), "one by one"),
        (Intervention(7, 1, 0, value=1.0, onward=True), "has layers 0 to 2"),
        (Intervention(0, 1, 0, value=float("nan"), onward=True), "finite number"),
        (Intervention(0, 1, 3, value=1.0, prompts=((1, 2),)), "a value or other prompts, not both"),
        (Supernode("both", (Patch("m1", 1), Patch("m1", 1, 0.5))), "same component twice"),
        (Supernode("both", (Patch("m1", 1), Patch("m1", factor=0.5))), "same component twice: m1 × 0.5 and m1@1 × 0"),
        (Supernode("both", (Patch("a0.h1"), Patch("a0.h1", 2, 0.5))), "same component twice"),
    ],
)
def test_bad_changes_are_told(wrong, complaint: str):
    model = model_of("llama")
    with pytest.raises(BadIntervention, match=complaint):
        intervene(model, dictionary_of(model, "per-layer"), PROMPT, [[wrong]])


@pytest.mark.parametrize(
    "options",
    [
        {"window": 3},
        {"window": -1},
        {"window": range(1, 4)},
        {"window": range(2, 2)},
        {"window": range(0, 3, 2)},
        {"norms": "off"},
        {"mlps": "iterative"},
        {"attention": "dead"},
    ],
)
def test_options_that_make_no_sense_are_told(options: dict):
    model = model_of("llama")
    with pytest.raises(BadOption, match=r"window|must be one of"):
        intervene(model, dictionary_of(model, "per-layer"), PROMPT, [], **options)


def test_a_window_that_a_unit_does_not_write_to_and_a_trace_of_other_weights_are_told():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    early = next(unit for unit in some_units(run) if unit.layer == 0)

    with pytest.raises(BadIntervention, match="no layer of the window, 1 to 2"):
        intervene(model, dictionary, run, [[early]], window=range(1, 3))
    with pytest.raises(BadIntervention, match="was not made with"):
        intervene(model.shuffled(3), dictionary, run, [[early]])
