"""A Lorsa set made of a model's own heads: it rebuilds attention exactly, is loaded beside others, and is measured."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from circuits.attributing import attribute
from circuits.errors import BadOption, UnfitTranscoders
from circuits.model import Model
from circuits.tracing import trace
from circuits.transcoders.loading import load_transcoders
from circuits.transcoders.with_attention import attention_of
from tests.circuits.worlds import model_of

PROMPT = "a red fox runs here now there"


def write_own_heads(model: Model, folder: Path, **changed) -> Path:
    """Every direction of every head as two features, one for each sign."""
    for layer, block in enumerate(model.blocks):
        scores = model.attention_scores(layer)
        heads, wide, _ = block.W_O.shape
        group = heads // len(block.W_V)
        value = block.W_V.repeat_interleave(group, 0).transpose(1, 2).repeat(1, 2, 1)
        value[:, wide:] *= -1
        out = block.W_O.repeat(1, 2, 1)
        out[:, wide:] *= -1
        settings = {"sae_type": "lorsa", "d_model": model.d_model, "n_qk_heads": heads, "d_qk_head": wide}
        settings |= {"rotary_dim": wide, "rotary_base": 10000, "rotary_adjacent_pairs": False, "act_fn": "relu"}
        settings |= {"norm_activation": "inference", "sparsity_include_decoder_norm": False}
        settings |= {"hook_point_in": f"blocks.{layer}.ln1.hook_out", "hook_point_out": f"blocks.{layer}.hook_attn_out"}
        tensors = {"W_Q": scores.W_Q, "W_K": scores.W_K.repeat_interleave(group, 0)}
        tensors |= {"b_Q": torch.zeros(heads, wide), "b_K": torch.zeros(heads, wide)}
        tensors |= {"W_V": value.flatten(0, 1), "W_O": out.flatten(0, 1), "b_V": torch.zeros(heads * 2 * wide)}
        tensors["b_D"] = torch.zeros(model.d_model)
        at = folder / f"layer{layer}_lorsa"
        at.mkdir(parents=True)
        (at / "config.json").write_text(json.dumps({**settings, **changed}))
        save_file({name: each.float().contiguous() for name, each in tensors.items()}, at / "sae_weights.safetensors")
    return folder


def test_a_models_own_heads_rebuild_its_attention(tmp_path: Path):
    model = model_of("llama", "float32")
    folder = write_own_heads(model, tmp_path / "own")

    dictionary = load_transcoders(f"neurons+{folder}", model)
    run = trace(model, dictionary, PROMPT)

    attention = attention_of(dictionary)
    assert attention is not None and attention.numbers == (0, 1, 2)
    for layer, attended in run.attended.items():
        torch.testing.assert_close(attended.patterns, run.frozen.attention[layer].pattern)
        assert attended.errors.abs().max() < 1e-5 * attended.outputs.abs().max()
    graph = attribute(model, dictionary, PROMPT)
    assert graph.provenance["transcoders"] == f"neurons+{folder}" == dictionary.name
    assert (
        graph.provenance["transcoders_hash"]
        == dictionary.content_hash
        != load_transcoders("neurons", model).content_hash
    )
    assert (graph.nodes.kind == "attention").any()


def test_some_layers_may_be_taken_of_it(tmp_path: Path):
    model = model_of("llama", "float32")
    folder = write_own_heads(model, tmp_path / "own")

    dictionary = load_transcoders(f"neurons+{folder}@L0,2", model)

    assert list(trace(model, dictionary, PROMPT).attended) == [0, 2]
    assert dictionary.content_hash != load_transcoders(f"neurons+{folder}", model).content_hash
    with pytest.raises(UnfitTranscoders, match="has no layer 7, but 0, 1, 2"):
        load_transcoders(f"neurons+{folder}@L7", model)


def test_one_at_another_tensor_is_refused_by_the_likely_cause(tmp_path: Path):
    model = model_of("llama", "float32")
    folder = write_own_heads(model, tmp_path / "own")

    with pytest.raises(UnfitTranscoders, match=r"the norm's gain included.*@attention_input@attention_output"):
        load_transcoders(f"neurons+{folder}@attention_normalised", model)

    forced = load_transcoders(f"neurons+{folder}@attention_normalised", model, force=True)
    assert attention_of(forced) is not None


def test_what_makes_no_dictionary_is_refused_by_name(tmp_path: Path):
    model = model_of("llama", "float32")
    folder = write_own_heads(model, tmp_path / "own")

    with pytest.raises(UnfitTranscoders, match=r"for the MLPs too, as in neurons\+"):
        load_transcoders(str(folder), model)
    with pytest.raises(UnfitTranscoders, match="both stand in for attention"):
        load_transcoders(f"neurons+{folder}+{folder}", model)
    with pytest.raises(BadOption, match="is at attention_output, attention_raw, found mlp_raw"):
        load_transcoders(f"neurons+{folder}@mlp_raw", model)
    with pytest.raises(UnfitTranscoders, match="give the set made for this model"):
        load_transcoders(f"neurons+{folder}", model_of("gpt_neo", "float32"))


def write_autoencoders(model: Model, folder: Path, hook: str = "hook_attn_out", width: int | None = None) -> Path:
    """Every coordinate of an attention output as two features, one for each sign, in SAELens's layout."""
    width = width or model.d_model
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    for layer in range(model.layers):
        at = folder / f"blocks.{layer}.{hook}"
        at.mkdir(parents=True)
        settings = {"architecture": "standard", "d_in": width, "d_sae": len(both), "dtype": "float32"}
        settings |= {"apply_b_dec_to_input": False, "normalize_activations": "none"}
        (at / "cfg.json").write_text(json.dumps({**settings, "metadata": {"hook_name": f"blocks.{layer}.{hook}"}}))
        tensors = {"W_enc": both.T.contiguous(), "W_dec": both, "b_enc": torch.zeros(len(both))}
        save_file({**tensors, "b_dec": torch.zeros(width)}, at / "sae_weights.safetensors")
    return folder


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_autoencoders_of_attention_outputs_stand_in_for_attention(tmp_path: Path, family: str):
    model = model_of(family, "float32")
    folder = write_autoencoders(model, tmp_path / "attn")

    dictionary = load_transcoders(f"neurons+{folder}@L1-2", model)
    run = trace(model, dictionary, PROMPT)

    assert list(run.attended) == [1, 2]
    for attended in run.attended.values():
        assert attended.errors.abs().max() < 1e-5 * attended.outputs.abs().max()
    graph = attribute(model, dictionary, PROMPT)
    assert (graph.nodes.kind == "attention").sum() == 2 * model.d_model * (len(graph.tokens))
    with pytest.raises(UnfitTranscoders, match=r"for the MLPs too, as in neurons\+"):
        load_transcoders(str(folder), model)


def test_autoencoders_of_heads_values_are_told_from_those_of_outputs(tmp_path: Path):
    model = model_of("llama", "float32")

    with pytest.raises(UnfitTranscoders, match="that of its heads together: autoencoders of these are not read"):
        load_transcoders(str(write_autoencoders(model, tmp_path / "wide", "hook_mlp_out", 24)), model)
    with pytest.raises(UnfitTranscoders, match="an autoencoder of mixed, which no MLP and no attention puts out"):
        load_transcoders(f"neurons+{write_autoencoders(model, tmp_path / 'z', 'attn.hook_z')}", model)
