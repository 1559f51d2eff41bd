"""What a model takes as a prompt, a target, a name and a device, and what it says to everything else."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from circuits import attribute, load_model
from circuits.errors import BadOption, BadPrompt, BadTarget, UnfaithfulModel, UnknownModel, UnsupportedModel
from circuits.goal import choose_goal
from circuits.model import Model
from circuits.sampling import sample_prompts
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary
from circuits.weights import Brought
from tests.circuits.worlds import WORDS, dictionary_of, folder_of, model_of, native_of


def test_a_prompt_is_read_with_the_token_that_begins_every_text():
    model = model_of("llama")
    ids = model.tokenize("a red fox").tolist()
    assert model.texts(ids) == ["<bos>", "a", "red", "fox"]
    assert model.tokenize(ids).tolist() == ids


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ([], "empty"),
        ("a purple fox", "does not know 'purple'"),
        ("a rad fox", "Did you mean red"),
        ([1, 99], "from 0 to 11, found 99"),
        ("a " * 40, "41 tokens, .* reads at most 32"),
    ],
)
def test_a_bad_prompt_is_refused_with_the_reason(prompt, complaint: str):
    with pytest.raises(BadPrompt, match=complaint):
        model_of("llama").tokenize(prompt)


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        (["purple"], "a word it does not know"),
        (["RED"], "Did you mean red"),
        (["red fox"], "2 tokens"),
        ([("red", "red")], "same token"),
        (["red", "red"], "given twice"),
        ([99], "from 0 to 11"),
        ([], "list of tokens"),
        ("red", "list of tokens"),
    ],
)
def test_a_bad_target_is_refused_with_the_reason(targets, complaint: str):
    with pytest.raises(BadTarget, match=complaint):
        choose_goal(*traced("llama"), targets)


def test_the_likeliest_tokens_are_taken_until_they_reach_the_mass():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.1, 0.04, *[0.06 / 8] * 8], dtype=torch.float64))
    model, dictionary, run = traced("llama")
    run = replace(run, logits=logits.expand(len(run.tokens), -1))

    assert choose_goal(model, dictionary, run, logit_mass=0.8).right == [0, 1]
    assert choose_goal(model, dictionary, run, logit_mass=0.81).right == [0, 1, 2]
    assert choose_goal(model, dictionary, run, max_logits=1).right == [0]
    assert sum(choose_goal(model, dictionary, run, logit_mass=1.0, max_logits=12).weight) == pytest.approx(1)


def traced(family: str) -> tuple[Model, Dictionary, Trace]:
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    return model, dictionary, trace(model, dictionary, "a red fox runs")


def test_a_set_is_named_in_one_line_however_large():
    assert repr(dictionary_of(model_of("llama"), "per-layer")).startswith("Transcoders('")
    assert len(repr(dictionary_of(model_of("llama"), "cross-layer"))) < 100


def test_an_unknown_model_is_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnknownModel, match="not among the shipped"):
        load_model("nobody/nothing")
    with pytest.raises(UnknownModel, match=r"a folder with config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnknownModel, match="cannot be loaded"):
        load_model(tmp_path)


def test_an_architecture_nobody_checked_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"architectures": ["OPTForCausalLM"], "model_type": "opt"}')
    with pytest.raises(UnsupportedModel, match="OPTForCausalLM; the families known are"):
        load_model(tmp_path)


def test_weights_that_are_cut_short_are_refused(tmp_path: Path):
    for file in folder_of("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(
        UnknownModel, match=r"cannot be loaded: its weights are no whole safetensors file.*fetch it again"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_weights_that_are_not_those_of_the_configuration_are_refused(tmp_path: Path, family: str):
    for file in folder_of(family).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights, settings = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, said = load_file(weights), settings.read_text()
    lost = next(name for name in whole if ".1.mlp." in name and name.endswith("weight"))

    save_file({name: tensor for name, tensor in whole.items() if name != lost}, weights, {"format": "pt"})
    with pytest.raises(UnknownModel, match=rf"lack weights, which would be drawn at random: \S*{lost}"):
        load_model(tmp_path)
    save_file({**whole, lost: torch.zeros(3, 3)}, weights, {"format": "pt"})
    with pytest.raises(UnknownModel, match=rf"other shapes than config\.json says: \S*{lost} \(\[3, 3\], not "):
        load_model(tmp_path)
    save_file({**whole, "vision.layers.99.weight": torch.zeros(2)}, weights, {"format": "pt"})
    layers = load_model(tmp_path).layers
    settings.write_text(re.sub(rf'("(?:num_hidden_layers|n_layer)": ){layers}', rf"\g<1>{layers - 1}", said))
    with pytest.raises(UnknownModel, match=f"says {layers - 1} layers, its files hold more"):
        load_model(tmp_path)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(BadOption, match="float32, float64"):
        load_model(folder_of("llama"), dtype="int8")
    with pytest.raises(BadOption, match="torch knows no device 'tape'"):
        load_model(folder_of("llama"), device="tape")
    with pytest.raises(BadOption, match="'meta' cannot be used here"):
        load_model(folder_of("llama"), device="meta")
    with pytest.raises(BadOption, match="max_features must be at least 1"):
        attribute(model_of("llama"), dictionary_of(model_of("llama"), "neurons"), "a", max_features=0)


def test_a_folder_is_called_by_where_it_is_however_it_was_named(monkeypatch: pytest.MonkeyPatch):
    folder = folder_of("llama")
    monkeypatch.chdir(folder.parent)
    assert load_model(folder.name, device="cpu").name == str(folder)
    with pytest.raises(UnknownModel, match="found ''"):
        load_model("")


def test_a_model_whose_frozen_copy_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch):
    """As if a family's gains were stored minus one and nobody had said so; the check at loading taken away."""
    monkeypatch.setattr("circuits.soundness.check_sound", lambda _: None)
    model = load_model(folder_of("gemma2"), device="cpu", dtype="float64")
    model.family = replace(model.family, gain_offset=0.0)
    with pytest.raises(UnfaithfulModel, match="misses its logits"):
        attribute(model, dictionary_of(model, "per-layer"), "a red fox")


def test_the_content_hash_changes_with_any_weight():
    model = load_model(folder_of("gpt2"), device="cpu")
    before = model.content_hash
    del model.__dict__["content_hash"]
    model._bridge.original_model.transformer.wte.weight.data[0, 0] += 1e-3
    assert model.content_hash != before


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3_moe"])
def test_a_model_in_memory_is_read_as_its_folder_is_and_left_alone(family: str):
    held = AutoModelForCausalLM.from_pretrained(folder_of(family), dtype=torch.bfloat16)
    before = [(name, type(module)) for name, module in held.named_modules()]

    model = load_model(held, tokenizer=AutoTokenizer.from_pretrained(folder_of(family)), device="cpu")

    assert [(name, type(module)) for name, module in held.named_modules()] == before
    assert all(weight.dtype == torch.bfloat16 and weight.requires_grad for weight in held.parameters())
    tokens = model.tokenize("a red fox")
    assert model.dtype == model.W_U.dtype == torch.float32
    real = held.float()(tokens[None]).logits
    torch.testing.assert_close(model.run(tokens[None])[0], real, atol=1e-4, rtol=1e-4) if family != "gemma2" else None
    assert load_model(held).words.tokenizer is None


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "gemma3_text"])
def test_weights_stored_in_bfloat16_are_computed_in_float32(tmp_path: Path, family: str):
    AutoModelForCausalLM.from_pretrained(folder_of(family), dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert {str(each.dtype) for each in load_file(tmp_path / "model.safetensors").values()} == {"torch.bfloat16"}
    model = load_model(tmp_path, device="cpu")
    assert {weight.dtype for weight in model.network.parameters()} == {torch.float32}
    assert model.words.tokenizer is None
    tokens = torch.tensor([[1, 3, 5, 7]])
    real = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(tokens).logits
    torch.testing.assert_close(model.run(tokens)[0], real, atol=1e-4, rtol=1e-4)

    graph = attribute(model, dictionary_of(model, "per-layer"), [1, 3, 5, 7])

    assert graph.token_ids == (1, 3, 5, 7)
    assert 0 < graph.provenance["conservation"] < 1e-5


def test_what_is_no_model_is_refused():
    with pytest.raises(UnsupportedModel, match="found Linear"):
        load_model(torch.nn.Linear(2, 2))
    with pytest.raises(UnknownModel, match="or is one in memory; found 7"):
        load_model(7)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"d_vocab_out": 5}, "one vocabulary is wanted"),
        ({"positional_embedding_type": "sideways"}, "cannot be loaded: .*sideways"),
    ],
)
def test_a_native_model_that_cannot_be_traced_is_refused_with_the_reason(tmp_path: Path, settings, complaint: str):
    folder = Path(native_of("bare").name)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **settings}))
    with pytest.raises((UnsupportedModel, UnknownModel), match=complaint):
        load_model(tmp_path, device="cpu")


def test_a_native_model_samples_without_keys_and_values():
    model = native_of("plain")
    prompts = sample_prompts(model, 1, count=3, length=5, seed=0)
    assert prompts.shape == (3, 5)
    whole, _ = model.run(prompts)
    past = model.remember()
    parts = [model.run(each, past=past)[0] for each in prompts.split(1, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_a_chat_keeps_its_roles_and_marks(tmp_path: Path):
    for file in folder_of("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BadPrompt, match="has no chat template"):
        load_model(tmp_path, device="cpu").chat("a red fox")

    words = AutoTokenizer.from_pretrained(tmp_path)
    words.chat_template = (
        "{{ bos_token }}{% for turn in messages %} {{ 'dog' if turn['role'] == 'user' else 'fox' }} "
        "{{ turn['content'] }}{% endfor %}{% if add_generation_prompt %} fox{% endif %}"
    )
    words.save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert model.texts(model.chat("runs here")) == ["<bos>", "dog", "runs", "here", "fox"]
    turns = [{"role": "user", "content": "runs"}, {"role": "assistant", "content": "sleeps"}]
    assert model.texts(model.chat(turns)) == ["<bos>", "dog", "runs", "fox", "sleeps", "fox"]
    for wrong in ("", [], [{"role": "user"}], [{"content": "runs"}]):
        with pytest.raises(BadPrompt, match="turns of role and content"):
            model.chat(wrong)
    with pytest.raises(BadPrompt, match="does not know 'purple'"):
        model.chat("purple")


@pytest.mark.parametrize("marks", [{}, {"eos_token": "now"}])
def test_a_tokenizer_without_bos_is_given_none(tmp_path: Path, marks: dict[str, str]):
    """TransformerLens would put its EOS there, or a token that it makes up."""
    for file in folder_of("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS[:-1])}, unk_token="<unk>"))  # a row to spare
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **marks).save_pretrained(tmp_path)

    for model in (
        load_model(tmp_path, device="cpu"),
        load_model(
            AutoModelForCausalLM.from_pretrained(tmp_path),
            tokenizer=AutoTokenizer.from_pretrained(tmp_path),
            device="cpu",
        ),
    ):
        assert model.texts(model.tokenize("a red fox").tolist()) == ["a", "red", "fox"]
        graph = attribute(model, dictionary_of(model, "per-layer"), "a red fox")
        assert graph.tokens == ("a", "red", "fox")
        assert model.words.tokenizer.bos_token is None


def test_a_tokenizer_of_more_words_than_the_model_reads_is_another_models(tmp_path: Path):
    for file in folder_of("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words = AutoTokenizer.from_pretrained(tmp_path)
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})  # as Gemma 3's text models have it
    words.save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert model.texts(model.tokenize("a red fox").tolist()) == ["<bos>", "a", "red", "fox"]
    with pytest.raises(BadPrompt, match=f"from 0 to {len(WORDS) - 1}, found {len(WORDS)}"):
        model.tokenize("a <image>")

    other = Tokenizer(WordLevel({word: i for i, word in enumerate([*WORDS, "otter"])}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=other, unk_token="<unk>").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match=f"has {len(WORDS) + 1} words and the model reads {len(WORDS)}:"):
        load_model(tmp_path, device="cpu")


def test_a_bos_stands_in_front_once():
    model = load_model(folder_of("llama"), device="cpu")  # its tokenizer puts it there by itself
    assert model.texts(model.tokenize("a red").tolist()) == ["<bos>", "a", "red"]
    assert model.texts(model.tokenize("<bos> a red").tolist()) == ["<bos>", "a", "red"]
    assert model.texts(model.tokenize([2, 3]).tolist()) == ["a", "red"]  # ids are taken as they are


def test_a_model_is_put_where_a_mapping_says():
    names = ("model.embed_tokens", "model.rotary_emb", "model.layers", "model.norm", "lm_head")
    model = load_model(folder_of("llama"), device=dict.fromkeys(names, "cpu"), dtype="float64")
    plain = model_of("llama")
    tokens = plain.tokenize("a red fox")[None]
    torch.testing.assert_close(model.run(tokens)[0], plain.run(tokens)[0])
    with pytest.raises(BadOption, match="'meta' cannot be used here"):
        load_model(folder_of("llama"), device={"": "meta"})
    with pytest.raises(BadOption, match="this machine"):
        load_model(folder_of("llama"), device="balanced" if not torch.cuda.is_available() else {"": "cuda:99"})
    with pytest.raises(BadOption, match="a model in memory goes to one device"):
        load_model(plain._bridge, device={"": "cpu"})
    with pytest.raises(UnsupportedModel, match="TransformerLens's own, and goes to one device"):
        load_model(native_of("bare").name, device={"": "cpu"})


def test_of_a_model_that_is_spread_out_mlps_are_brought_when_they_are_read():
    """One machine has two devices and another has not: here both are the CPU, and the copies are watched."""
    model = copy.copy(model_of("llama"))
    model.spread = True
    neurons = dictionary_of(model, "neurons")
    assert isinstance(model.whole_blocks, Brought) and len(model.whole_blocks) == model.layers

    graph = attribute(model, neurons, "a red fox runs")

    plain = attribute(model_of("llama"), dictionary_of(model_of("llama"), "neurons"), "a red fox runs")
    assert graph.weight.tolist() == plain.weight.tolist()
