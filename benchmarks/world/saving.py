"""The model as a Hugging Face folder: weights in half precision, configuration, word-level tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.world.language import BOS, SPECIAL, Language


def save_model(model: LlamaForCausalLM, language: Language, folder: Path) -> None:
    """Write what `from_pretrained` and `AutoTokenizer` read. The model itself is rounded too.

    Everything measured later is then measured on the weights that are shipped.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer_of(language).save_pretrained(folder)


def load_model(folder: Path) -> LlamaForCausalLM:
    """The model in float32, not in training mode."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def tokenizer_of(language: Language) -> PreTrainedTokenizerFast:
    """One word a token; `<bos>` comes first by itself; `<unk>` shows a word that the world lacks."""
    pad, bos, unknown = SPECIAL
    words = Tokenizer(WordLevel(language.index, unk_token=unknown))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=bos, pad_token=pad, unk_token=unknown, clean_up_tokenization_spaces=False
    )
