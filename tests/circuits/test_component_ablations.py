"""What takes the place of components: the corrupted prompt, nothing, means, and the best constant."""

import pytest
import torch

from circuits.components.ablations import ABLATIONS, constants, mean_values, resample
from circuits.components.held_runs import HELD, hold
from circuits.components.optimal_constants import cost_of_constant
from circuits.components.pairs import Pairs
from circuits.components.transformer import transformer_of
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import model_of

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

    for name, column in vars(run).items():
        torch.testing.assert_close(vars(held)[name], column)


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


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox"])
def test_the_best_constant_is_never_worse_than_the_mean_and_for_most_components_better(family):
    transformer = transformer_of(model_of(family))
    means = mean_values(transformer, [PAIRS])
    best = ABLATIONS["optimal"](transformer, [PAIRS], silent)(transformer, PAIRS)
    at_mean = constants(means)(transformer, PAIRS)
    clean = transformer.run(transformer.embed(PAIRS.clean))
    better = 0
    for column in range(1 + 2 * len(transformer.layers)):
        costs = []
        for run in (best, at_mean):
            if column == 0:
                values = run.before[0][:1, :1] - (0 if transformer.W_pos is None else transformer.W_pos[0])
            elif column % 2:
                values = run.mixed[column // 2][0, :, :1]
            else:
                values = run.mlp[column // 2 - 1][:1, :1]
            costs.append(cost_of_constant(transformer, PAIRS, clean, column, values))
        assert (costs[0] <= costs[1] + 1e-12).all()
        better += int((costs[0] < 0.9 * costs[1]).sum())

    assert better > 0.6 * len(transformer.layers) * 5


def test_what_a_constant_costs_is_the_divergence_of_a_run_with_it():
    transformer = transformer_of(model_of("gemma2"))
    clean = transformer.run(transformer.embed(PAIRS.clean))
    wanted = transformer.log_probabilities(transformer.unembed(clean.after))[torch.arange(2), PAIRS.position]
    values = torch.full((4, 1, 6), 0.3, dtype=torch.float64)

    costs = cost_of_constant(transformer, PAIRS, clean, 3, values)

    for head in range(4):

        def put(mixed, head=head):
            return torch.cat([mixed[:, :head], torch.full_like(mixed[:, :1], 0.3), mixed[:, head + 1 :]], 1)

        run = transformer.run(transformer.embed(PAIRS.clean), replace={("mixed", 1): put})
        said = transformer.log_probabilities(transformer.unembed(run.after))[torch.arange(2), PAIRS.position]
        expected = torch.nn.functional.kl_div(said, wanted, log_target=True, reduction="sum")
        torch.testing.assert_close(costs[head], expected)
