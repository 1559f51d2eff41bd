"""What takes the place of components: the corrupted prompt, nothing, means, and the best constant."""

import pytest
import torch

from circuits.components.ablations import ABLATIONS, constants, mean_values, resample
from circuits.components.held_runs import HELD, hold
from circuits.components.opening import transformer_of
from circuits.components.optimal_constants import cost_of_constants
from circuits.components.pairs import Pairs
from circuits.components.parts import UNITS, parts_of
from circuits.components.taking_apart import take_apart
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import dictionary_of, model_of

SHORT = Pairs(
    clean=torch.tensor([[1, 2, 5, 9]]),
    corrupted=torch.tensor([[1, 4, 5, 9]]),
    right=torch.tensor([6]),
    wrong=torch.tensor([8]),
    position=torch.tensor([3]),
)


def silent(name, done, total):
    pass


@pytest.mark.parametrize("family", OPEN)
def test_a_run_that_is_told_what_it_wrote_is_that_run(family):
    transformer = transformer_of(model_of(family))
    run = resample(transformer, PAIRS, neurons=True)

    held = hold(transformer, run.before[0], {name: getattr(run, name) for name in HELD})

    for name in (*HELD, "before", "attention", "mlp_input", "after"):
        torch.testing.assert_close(vars(held)[name], vars(run)[name])


def test_zero_leaves_positions_and_biases_alone():
    transformer = transformer_of(model_of("gpt2"))

    run = ABLATIONS["zero"](transformer, [PAIRS], silent)(transformer, PAIRS)

    assert transformer.W_pos is not None
    biases = sum(layer.b_O for layer in transformer.layers)
    torch.testing.assert_close(run.after, (transformer.W_pos[:6] + biases).expand(2, -1, -1))


def test_a_mean_is_taken_over_every_position_of_every_corrupted_prompt():
    transformer = transformer_of(model_of("gemma2"))
    runs = [resample(transformer, each) for each in (SHORT, PAIRS)]
    rows = torch.cat([run.mixed[1].transpose(1, 2).flatten(0, 1) for run in runs])

    mean = ABLATIONS["mean"](transformer, [SHORT, PAIRS], silent)(transformer, PAIRS)

    torch.testing.assert_close(mean.mixed[1], rows.mean(0)[None, :, None].expand(2, -1, 6, -1))
    embedded = torch.cat([transformer.embed(each.corrupted).flatten(0, 1) for each in (SHORT, PAIRS)])
    torch.testing.assert_close(mean.before[0], embedded.mean(0).expand(2, 6, -1))


def test_a_mean_by_position_is_taken_over_prompts_of_the_same_length():
    transformer = transformer_of(model_of("llama"))
    alone, both = (resample(transformer, each) for each in (SHORT, PAIRS))

    ablate = ABLATIONS["mean-by-position"](transformer, [*PAIRS.split(1), SHORT], silent)

    torch.testing.assert_close(ablate(transformer, SHORT).mlp[2], alone.mlp[2])
    torch.testing.assert_close(ablate(transformer, PAIRS).mlp[2], both.mlp[2].mean(0).expand(2, -1, -1))


def column_of_component(transformer, run, place, part):
    """What one component is told to write, of one position."""
    name, layer = place
    if name == "input":
        return run.before[0][:1, :1] - (0 if transformer.W_pos is None else transformer.W_pos[0])
    column = getattr(run, name)[layer]
    if name in ("mlp", "errors"):
        return column[:1, :1]
    return column[:1, :1, part, None] if name in UNITS else column[0, part, None, :1]


@pytest.mark.parametrize(
    ("family", "level"),
    [
        ("gpt2", {}),
        ("gemma2", {"apart": True}),
        ("gpt_neox", {"neurons": True}),
        ("gemma2", {"neurons": True}),
        ("gpt2", {"neurons": True, "set": "mixed"}),
    ],
)
def test_the_best_constant_is_never_worse_than_the_mean_and_for_most_components_better(family, level, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 12)
    transformer, level = transformer_of(model_of(family)), dict(level)
    if kind := level.pop("set", None):
        transformer = take_apart(transformer, dictionary_of(model_of(family), kind), [PAIRS])
    means = mean_values(transformer, [PAIRS])
    best = ABLATIONS["optimal"](transformer, [PAIRS], silent, **level)(transformer, PAIRS)
    at_mean = constants(means)(transformer, PAIRS)
    clean = transformer.run(transformer.embed(PAIRS.clean), neurons=True)
    better = []
    for name, layer, count in parts_of(transformer, **level).columns:
        for part in range(count):
            values = [column_of_component(transformer, run, (name, layer), part) for run in (best, at_mean)]
            costs = [
                cost_of_constants(transformer, PAIRS, clean, (name, layer), each.reshape(1, 1, -1), part)
                for each in values
            ]
            assert costs[0] <= costs[1] + 1e-12
            better.append(bool(costs[0] < 0.9 * costs[1]))

    assert sum(better) > 0.6 * len(better)


@pytest.mark.parametrize(("family", "writes"), [("gemma2", "mlp_raw"), ("gpt2", "mlp_output"), ("olmo2", "mlp_output")])
def test_what_a_constant_costs_is_the_divergence_of_a_run_with_it(family, writes):
    transformer = transformer_of(model_of(family))
    clean = transformer.run(transformer.embed(PAIRS.clean), neurons=True)
    wanted = transformer.log_probabilities(transformer.unembed(clean.after))[torch.arange(2), PAIRS.position]
    numbers = torch.Generator().manual_seed(4)
    for name in ("query", "key", "value", "mixed", "neurons", "mlp", "features", "errors"):
        if name == "features":
            transformer = take_apart(transformer, dictionary_of(model_of(family), "per-layer", writes=writes), [PAIRS])
            clean = transformer.run(transformer.embed(PAIRS.clean), neurons=True)
        column, whole = getattr(clean, name)[1], name in ("mlp", "errors")
        shape = (1, 1, 16) if whole else (5, 1, 1) if name in UNITS else (2, 1, column.shape[-1])
        values = torch.randn(shape, generator=numbers, dtype=torch.float64)

        costs = cost_of_constants(transformer, PAIRS, clean, (name, 1), values, 0 if whole else 2)

        for at, value in enumerate(values):
            put = column.clone()
            if whole:
                put[:] = value
            elif name in UNITS:
                put[..., 2 + at] = value[0]
            else:
                put[:, 2 + at] = value
            run = transformer.run(transformer.embed(PAIRS.clean), replace={(name, 1): put})
            said = transformer.log_probabilities(transformer.unembed(run.after))[torch.arange(2), PAIRS.position]
            expected = torch.nn.functional.kl_div(said, wanted, log_target=True, reduction="sum")
            torch.testing.assert_close(costs[at], expected)


def test_constants_do_not_depend_on_how_many_components_run_at_once(monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 1)
    transformer = transformer_of(model_of("llama"))
    whole = ABLATIONS["optimal"](transformer, [SHORT, PAIRS], silent, apart=True, neurons=True)(transformer, SHORT)

    monkeypatch.setattr("circuits.components.optimal_constants.ROWS", 60)
    few = ABLATIONS["optimal"](transformer, [SHORT, PAIRS], silent, apart=True, neurons=True)(transformer, SHORT)

    for name in HELD:
        torch.testing.assert_close(getattr(few, name)[1], getattr(whole, name)[1])


def test_constants_are_fitted_where_gradients_are_switched_off_too(monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 2)
    transformer = transformer_of(model_of("gpt2"))
    expected = ABLATIONS["optimal"](transformer, [PAIRS], silent)(transformer, PAIRS)

    with torch.no_grad():
        found = ABLATIONS["optimal"](transformer, [PAIRS], silent)(transformer, PAIRS)

    torch.testing.assert_close(found.after, expected.after)
    assert not found.after.requires_grad
