"""The model's own prompts: the same on every machine, and the same as a plainer, slower way to sample them."""

import pytest
import torch

from circuits import sampling
from circuits.sampling import mean_activations, sample_prompts
from tests.circuits.worlds import ALIKE, FAMILIES, dictionary_of, model_of


@pytest.mark.parametrize("family", [*FAMILIES, *ALIKE])
def test_remembering_keys_and_values_samples_what_reading_it_all_again_does(family: str):
    """Chance is looked up in the cumulative probabilities that one whole run over the finished prompts gives."""
    model = model_of(family)

    prompts = sample_prompts(model, 1, count=5, length=9, seed=4)

    logits, _ = model.run(prompts)
    below = model.probabilities(logits.double()).cumsum(-1)[:, :-1]
    chance = torch.rand(5, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert (prompts[:, 0] == 1).all()
    torch.testing.assert_close(prompts[:, 1:], (below <= chance[..., None]).sum(-1))


def test_how_many_go_through_the_model_at_once_makes_no_difference(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    together = sample_prompts(model, 1, count=6, length=7, seed=0)
    means = mean_activations(model, dictionary, together)

    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(sampling, "NUMBERS", 1)
    plain = model.run
    monkeypatch.setattr(
        model, "run", lambda tokens, **more: (seen.append(tuple(tokens.shape)), plain(tokens, **more))[1]
    )
    alone = sample_prompts(model, 1, count=6, length=7, seed=0)
    means_alone = mean_activations(model, dictionary, alone)

    torch.testing.assert_close(alone, together)
    for one, other in zip(means_alone, means, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert {shape[0] for shape in seen} == {1}  # one prompt at a time
    assert {shape[1] for shape in seen} == {1, 7}  # one new token at a time; whole prompts for the means


def test_samples_follow_the_models_own_probabilities():
    model = model_of("gpt2")

    second = sample_prompts(model, 1, count=4000, length=2, seed=0)[:, 1]

    logits, _ = model.run(torch.tensor([[1]]))
    expected = model.probabilities(logits[0, -1])
    share = torch.bincount(second, minlength=model.vocabulary) / len(second)
    assert float((share - expected).abs().max()) < 0.04


def test_progress_counts_every_token():
    said: list[tuple[str, int, int]] = []

    sample_prompts(model_of("llama"), 1, count=3, length=5, seed=0, progress=lambda *what: said.append(what))

    assert [done for _, done, _ in said] == [3, 6, 9, 12]
    assert {total for _, _, total in said} == {12}
