"""How often the model is right, task by task."""

from collections.abc import Mapping, Sequence

import torch
from transformers import LlamaForCausalLM

from benchmarks.world.language import Language
from benchmarks.world.prompts import Prompt
from benchmarks.world.running import questions


def judge(model: LlamaForCausalLM, language: Language, parts: Mapping[str, Sequence[Prompt]]) -> dict[str, float]:
    """The share answered right in each part: every answer word first of all words.

    Of `greater` it is the mean probability of all years that would be right.
    """
    return {name: float(right(model, language, part).mean()) for name, part in parts.items()}


@torch.no_grad()
def right(model: LlamaForCausalLM, language: Language, prompts: Sequence[Prompt]) -> torch.Tensor:
    """1 for each prompt answered right, else 0; a probability for `greater`. [row]"""
    tokens, last = questions(language, prompts, answered=True)
    logits = torch.cat([model(input_ids=part).logits.float() for part in tokens[:, :-1].split(500)])
    if prompts[0].family == "greater":
        started = torch.tensor([int(p.words[5]) for p in prompts])
        probability = logits[torch.arange(len(tokens)), last].softmax(-1)
        years = probability[:, language.first_year : language.first_year + 100]
        return (years * (torch.arange(100) > started[:, None])).sum(-1)
    guess = logits.argmax(-1)
    good = torch.ones(len(tokens))
    for step in range(max(len(p.answers) for p in prompts)):
        has = torch.tensor([step < len(p.answers) for p in prompts])
        at = (last + step).clamp(max=tokens.shape[1] - 2)
        rows = torch.arange(len(tokens))
        good *= ((guess[rows, at] == tokens[rows, at + 1]) | ~has).float()
    return good
