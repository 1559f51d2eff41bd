"""Lorsa sets: read right by an oracle of loops and complex numbers, in memory as from their files; bad ones refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import circuits.formats
from circuits.errors import DamagedTranscoders, UnknownTranscoders
from circuits.formats import load, load_attention

LAYERS, WIDTH, UNITS, HEADS, WIDE, TOKENS, K = 2, 6, 12, 3, 4, 5, 4
NORM_IN, NORM_OUT = 2.0, 3.0

VARIANTS = {
    "turned by halves": {"rotary_adjacent_pairs": False, "rotary_base": 1000000},
    "turned by neighbours": {"rotary_adjacent_pairs": True},
    "turned in part": {"rotary_dim": 2},
    "stretched": {
        "rotary_adjacent_pairs": False,
        "use_NTK_by_parts_rope": True,
        "NTK_by_parts_factor": 8.0,
        "NTK_by_parts_low_freq_factor": 1.0,
        "NTK_by_parts_high_freq_factor": 4.0,
        "old_context_len": 64,
    },
    "not turned": {"positional_embedding_type": "none"},
    "normed": {"use_post_qk_ln": True, "normalization_type": "RMS", "eps": 1e-2},
    "by threshold": {"act_fn": "jumprelu"},
    "rectified": {"act_fn": "relu", "use_decoder_bias": False, "attn_scale": 3.0},
    "not scaled": {"norm_activation": "inference", "sparsity_include_decoder_norm": False},
    "heads stored once for two": {"n_qk_heads": 2 * HEADS},
}


def write(folder: Path, **changed) -> list[tuple[dict, dict]]:
    """Two layers, and what is in them: settings and tensors."""
    numbers = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers)

    sets = []
    for layer in range(LAYERS):
        inward, outward = f"blocks.{layer}.ln1.hook_normalized", f"blocks.{layer}.hook_attn_out"
        settings = {"sae_type": "lorsa", "d_model": WIDTH, "n_qk_heads": HEADS, "d_qk_head": WIDE, "n_ctx": 8}
        settings |= {"rotary_dim": WIDE, "rotary_base": 10000, "rotary_adjacent_pairs": True, "rotary_scale": 1}
        settings |= {"act_fn": "topk", "top_k": K, "norm_activation": "dataset-wise", "use_decoder_bias": True}
        settings |= {"attn_scale": WIDE**0.5, "sparsity_include_decoder_norm": True, "use_post_qk_ln": False}
        settings |= {"hook_point_in": inward, "hook_point_out": outward, **changed}
        tensors = {f"W_{each}": draw(HEADS, WIDTH, WIDE) for each in "QK"}
        tensors |= {f"b_{each}": draw(HEADS, WIDE) for each in "QK"}
        tensors |= {"W_V": draw(UNITS, WIDTH), "W_O": draw(UNITS, WIDTH), "b_V": draw(UNITS)}
        tensors |= {"mask": torch.ones(8, 8, dtype=torch.bool).tril(), "IGNORE": torch.tensor(-torch.inf)}
        if settings["use_decoder_bias"]:
            tensors["b_D"] = draw(WIDTH)
        if settings["use_post_qk_ln"]:
            tensors |= {"ln_q.w": draw(HEADS, WIDE), "ln_k.w": draw(HEADS, WIDE)}
        if settings["act_fn"] == "jumprelu":
            tensors["activation_function.log_jumprelu_threshold"] = draw(UNITS)
        if settings["norm_activation"] == "dataset-wise":
            norms = {inward: torch.tensor(NORM_IN), outward: torch.tensor(NORM_OUT)}
            tensors |= {f"dataset_average_activation_norm.{hook}": norm for hook, norm in norms.items()}
        at = folder / f"layer{layer}_lorsa"
        at.mkdir(parents=True)
        (at / "config.json").write_text(json.dumps(settings))
        save_file(tensors, at / "sae_weights.safetensors")
        sets.append((settings, tensors))
    return sets


def turn(x: torch.Tensor, position: int, settings: dict) -> torch.Tensor:
    """One head's query or key as complex numbers, each turned by its own angle."""
    if settings.get("positional_embedding_type") == "none":
        return x
    wide = settings["rotary_dim"]
    out = x.clone()
    for pair in range(wide // 2):
        frequency = settings["rotary_base"] ** (-2 * pair / wide)
        if settings.get("use_NTK_by_parts_rope"):
            turns = settings["old_context_len"] * frequency / (2 * math.pi)
            low, high = settings["NTK_by_parts_low_freq_factor"], settings["NTK_by_parts_high_freq_factor"]
            slow = frequency / settings["NTK_by_parts_factor"]
            if turns < low:
                frequency = slow
            elif turns <= high:
                smooth = (turns - low) / (high - low)
                frequency = (1 - smooth) * slow + smooth * frequency
        one, other = (2 * pair, 2 * pair + 1) if settings["rotary_adjacent_pairs"] else (pair, pair + wide // 2)
        moved = complex(x[one], x[other]) * complex(math.cos(position * frequency), math.sin(position * frequency))
        out[one], out[other] = moved.real, moved.imag
    return out


def plain(settings: dict, tensors: dict, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patterns, activations and output of one layer, one number at a time."""
    scaled = settings["norm_activation"] == "dataset-wise"
    x = x * (WIDTH**0.5 / NORM_IN) if scaled else x
    pattern = torch.zeros(HEADS, TOKENS, TOKENS)
    for head in range(HEADS):
        looks: dict[str, list[torch.Tensor]] = {"Q": [], "K": []}
        for which in "QK":
            for position in range(TOKENS):
                found = x[position] @ tensors[f"W_{which}"][head] + tensors[f"b_{which}"][head]
                if settings["use_post_qk_ln"]:
                    gain = tensors[f"ln_{which.lower()}.w"][head]
                    found = found / math.sqrt(float((found**2).mean()) + settings["eps"]) * gain
                looks[which].append(turn(found, position, settings))
        for query in range(TOKENS):
            scores = [float(looks["Q"][query] @ looks["K"][key]) / settings["attn_scale"] for key in range(query + 1)]
            pattern[head, query, : query + 1] = torch.tensor(scores).softmax(0)
    before = torch.zeros(TOKENS, UNITS)
    for unit in range(UNITS):
        value = x @ tensors["W_V"][unit] + tensors["b_V"][unit]
        before[:, unit] = pattern[unit // (UNITS // HEADS)] @ value
    size = tensors["W_O"].norm(dim=1) if settings["sparsity_include_decoder_norm"] else torch.ones(UNITS)
    gated = (before * size).relu()
    if settings["act_fn"] == "topk":
        least = gated.sort(dim=1, descending=True).values[:, K - 1 : K]
        gated = gated * (gated >= least)
    elif settings["act_fn"] == "jumprelu":
        gated = gated * (gated > tensors["activation_function.log_jumprelu_threshold"].exp())
    acts = gated / size
    out = acts @ tensors["W_O"] + tensors.get("b_D", torch.zeros(WIDTH))
    return pattern, acts, out * (NORM_OUT / WIDTH**0.5) if scaled else out


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stays", [False, True])
def test_a_lorsa_set_gives_what_its_arithmetic_gives(tmp_path: Path, monkeypatch, variant: str, stays: bool):
    sets = write(tmp_path, **VARIANTS[variant])
    monkeypatch.setattr(circuits.formats, "IN_MEMORY", 0 if stays else 2**29)
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))

    found = load_attention(tmp_path)

    assert found.numbers == (0, 1) and found.unchecked == stays
    assert (found.reads, found.writes) == ("attention_normalised", "attention_output")
    for layer, (settings, tensors) in enumerate(sets):
        pattern, acts, out = plain(settings, tensors, x)
        torch.testing.assert_close(found.patterns(layer, x), pattern)
        torch.testing.assert_close(found.activations(layer, x), acts)
        torch.testing.assert_close(found.decode(layer, acts) + found.bias(layer), out)
        torch.testing.assert_close(found.activations(layer, x[None].expand(2, -1, -1))[1], acts)
        position, unit = (index[0] for index in acts.nonzero(as_tuple=True))
        vector, constant = found.reading(layer, unit[None])
        weights = found.patterns(layer, x)[found.head_of(unit[None])[0], position]
        torch.testing.assert_close(weights @ (x @ vector[0]) + constant[0], acts[position, unit])


def change(folder: Path, **tensors: torch.Tensor) -> None:
    path = folder / "layer0_lorsa" / "sae_weights.safetensors"
    save_file({**load_file(path), **tensors}, path)


def configure(folder: Path, **settings) -> None:
    path = folder / "layer0_lorsa" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


BAD = {
    "a weight that is no number": (lambda f: change(f, W_V=torch.full((UNITS, WIDTH), torch.nan)), "W_V of layer 0"),
    "another width": (lambda f: configure(f, d_model=8), "says d_model 8, but its tensors have 6"),
    "heads that do not fit": (lambda f: configure(f, n_qk_heads=4), "which 3 stored heads cannot share"),
    "another turn": (
        lambda f: change(f, rotary_cos=torch.zeros(8, WIDE), rotary_sin=torch.ones(8, WIDE)),
        "turns keys otherwise than its config.json says",
    ),
    "another norm": (
        lambda f: configure(f, use_post_qk_ln=True, normalization_type="LN"),
        "normalization_type 'LN' is not known",
    ),
    "a tensor without a use": (lambda f: change(f, gate=torch.ones(3)), "holds gate, which this layout does not know"),
    "a weight the wrong way round": (lambda f: change(f, W_O=torch.ones(WIDTH, UNITS)), "the wrong way round"),
    "another hook": (lambda f: configure(f, hook_point_out="blocks.0.hook_mlp_out"), "hook_point_out should be one of"),
    "many active in the whole batch": (lambda f: configure(f, act_fn="batchtopk"), "act_fn 'batchtopk' is not known"),
    "a scale of nothing": (lambda f: configure(f, attn_scale=-1), "attn_scale should be a number above 0"),
    "one layer twice": (
        lambda f: shutil.copytree(f / "layer0_lorsa", f / "layer9_lorsa"),
        "holds layer 0 twice",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_lorsa_set_is_refused_with_the_reason(tmp_path: Path, what: str):
    write(tmp_path)
    damage, message = BAD[what]
    damage(tmp_path)

    with pytest.raises(DamagedTranscoders, match=message):
        load_attention(tmp_path)


def test_each_kind_of_set_is_told_where_it_belongs(tmp_path: Path):
    write(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()

    with pytest.raises(DamagedTranscoders, match=r"TRANSCODERS\+LORSA"):
        load(tmp_path)
    with pytest.raises(UnknownTranscoders, match="no set for attention"):
        load_attention(empty)
    with pytest.raises(UnknownTranscoders, match="no folder"):
        load_attention(tmp_path / "nowhere")
