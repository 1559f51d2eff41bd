"""Readers of published layouts: what they read is right, and what is damaged is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from circuits.errors import DamagedTranscoders, UnfitTranscoders, UnknownTranscoders
from circuits.formats import FORMATS, load
from circuits.transcoders.loading import load_transcoders
from tests.circuits.worlds import model_of

SHARED = Path(__file__).parents[3] / "shared" / "formats"
LAYERS, WIDTH, FEATURES = 3, 16, 5


def write_per_layer(folder: Path, *, skip: bool = False) -> list[dict[str, torch.Tensor]]:
    """A random per-layer set in circuit-tracer's layout, thresholds included."""
    numbers = torch.Generator().manual_seed(5)
    shapes = {"W_enc": (FEATURES, WIDTH), "W_dec": (FEATURES, WIDTH), "b_enc": (FEATURES,), "b_dec": (WIDTH,)}
    shapes["activation_function.threshold"] = (FEATURES,)
    if skip:
        shapes["W_skip"] = (WIDTH, WIDTH)
    layers = [{name: torch.randn(*shape, generator=numbers) for name, shape in shapes.items()} for _ in range(LAYERS)]
    for layer, tensors in enumerate(layers):
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    config = {
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return layers


def write_cross_layer(folder: Path) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """A random cross-layer set in circuit-tracer's layout, ReLU."""
    numbers = torch.Generator().manual_seed(6)
    encoders = [torch.randn(FEATURES, WIDTH, generator=numbers) for _ in range(LAYERS)]
    decoders = [torch.randn(FEATURES, LAYERS - layer, WIDTH, generator=numbers) for layer in range(LAYERS)]
    for layer, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
        biases = {f"b_enc_{layer}": torch.zeros(FEATURES), f"b_dec_{layer}": torch.full((WIDTH,), float(layer))}
        save_file({f"W_enc_{layer}": encoder, **biases}, folder / f"W_enc_{layer}.safetensors")
        save_file({f"W_dec_{layer}": decoder}, folder / f"W_dec_{layer}.safetensors")
    config = {
        "model_kind": "cross_layer_transcoder",
        "feature_input_hook": "hook_resid_mid",
        "feature_output_hook": "hook_mlp_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return encoders, decoders


def test_a_per_layer_set_is_encoded_and_decoded_as_its_layout_says(tmp_path: Path):
    layers = write_per_layer(tmp_path, skip=True)
    x = torch.randn(LAYERS, 4, WIDTH)

    acts, out = load(tmp_path).reconstruct(x)

    for layer, tensors in enumerate(layers):
        before = x[layer] @ tensors["W_enc"].T + tensors["b_enc"]
        plain = before * (before > tensors["activation_function.threshold"])
        torch.testing.assert_close(acts[layer], plain)
        torch.testing.assert_close(
            out[layer], plain @ tensors["W_dec"] + tensors["b_dec"] + x[layer] @ tensors["W_skip"].T
        )


def test_a_cross_layer_decoder_is_indexed_by_offset(tmp_path: Path):
    encoders, decoders = write_cross_layer(tmp_path)
    x = torch.randn(LAYERS, 4, WIDTH)

    acts, out = load(tmp_path).reconstruct(x)

    plain = [torch.relu(x[layer] @ encoders[layer].T) for layer in range(LAYERS)]
    last = LAYERS - 1
    expected = sum(plain[layer] @ decoders[layer][:, last - layer] for layer in range(LAYERS)) + float(last)
    torch.testing.assert_close(acts[0], plain[0])
    torch.testing.assert_close(out[last], expected)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no published-layout samples beside this checkout")
@pytest.mark.parametrize(
    "name",
    [
        f"circuit_tracer_{kind}"
        for kind in ("plt_relu", "plt_jumprelu_skip", "plt_relu_skip", "clt_relu", "clt_jumprelu")
    ],
)
def test_samples_of_published_layouts_give_their_expected_numbers(name: str):
    index = {entry["folder"] if "folder" in entry else entry["name"]: entry for entry in _index()}
    expected = np.load(SHARED / name / "expected.npz")

    acts, out = load(SHARED / name / index[name]["load"]).reconstruct(torch.tensor(expected["x"], dtype=torch.float32))

    np.testing.assert_allclose(acts.numpy(), expected["acts"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.numpy(), expected["out"], rtol=1e-4, atol=1e-5)


def _index() -> list[dict]:
    found = json.loads((SHARED / "index.json").read_text())
    return found if isinstance(found, list) else [{"name": name, **entry} for name, entry in found.items()]


def cut_short(folder: Path) -> None:
    path = folder / "layer_1.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def put_in_a_nan(folder: Path) -> None:
    tensors = write_per_layer(folder)[0]
    tensors["b_dec"][0] = float("nan")
    save_file(tensors, folder / "layer_0.safetensors")


def turn_a_decoder(folder: Path) -> None:
    tensors = write_per_layer(folder)[0]
    tensors["W_dec"] = tensors["W_dec"].T.contiguous()
    save_file(tensors, folder / "layer_0.safetensors")


def add_a_stranger(folder: Path) -> None:
    tensors = write_per_layer(folder)[0]
    save_file({**tensors, "W_gate": tensors["W_enc"].clone()}, folder / "layer_0.safetensors")


def name_an_unknown_hook(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "feature_input_hook": "hook_mystery"}))


def garble_the_config(folder: Path) -> None:
    (folder / "config.yaml").write_bytes(b"model_kind: transcoder_set\n\xff\xfe: [")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_short, "layer_1.safetensors is no whole safetensors file"),
        (put_in_a_nan, "b_dec holds a NaN"),
        (turn_a_decoder, r"W_dec should be \(5, 16\), found \(16, 5\)"),
        (add_a_stranger, "W_gate, which this layout does not know"),
        (name_an_unknown_hook, "feature_input_hook should be one of"),
        (garble_the_config, "cannot be read"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, complaint: str):
    write_per_layer(tmp_path)
    damage(tmp_path)
    with pytest.raises(DamagedTranscoders, match=complaint):
        load(tmp_path)


def test_a_folder_of_something_else_is_no_dictionary(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UnknownTranscoders, match=r"holds notes\.txt") as said:
        load(tmp_path)
    assert str(said.value).rstrip(".").split("The layouts known: ")[1].split("; ") == list(FORMATS)


def test_a_configuration_that_is_no_yaml_is_told_by_its_line_and_what_was_wanted(tmp_path: Path):
    write_per_layer(tmp_path)
    (tmp_path / "config.yaml").write_text("model_kind: transcoder_set\n- feature_input_hook\n")
    with pytest.raises(DamagedTranscoders) as said:
        load(tmp_path)
    assert f"{tmp_path / 'config.yaml'} should hold settings in YAML" in str(said.value)
    assert "at line 2: " in str(said.value) and "while parsing" not in str(said.value)


def test_a_layer_that_is_not_there_is_no_damage_of_a_per_layer_set_but_of_a_cross_layer_one(tmp_path: Path):
    write_per_layer(tmp_path)
    (tmp_path / "layer_1.safetensors").unlink()
    assert load(tmp_path).of_layers == (0, 2)
    with pytest.raises(UnfitTranscoders, match=r"holds layers 0, 2; .* has 3: missing 1\. .*\+neurons"):
        load_transcoders(tmp_path, model_of("llama"))
    other = tmp_path / "cross-layer"
    other.mkdir()
    write_cross_layer(other)
    (other / "W_dec_1.safetensors").unlink()
    with pytest.raises(DamagedTranscoders, match=r"lacks W_dec_1\.safetensors"):
        load(other)


def test_a_set_for_another_model_is_refused(tmp_path: Path):
    write_per_layer(tmp_path)
    with pytest.raises(UnfitTranscoders, match=r"2 layers of width 16, but .* is for 3 layers of width 16"):
        load_transcoders(tmp_path, model_of("gpt_neo"))


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(UnknownTranscoders, match="'neurons' for the model's own neurons"):
        load_transcoders("no-such-set", model_of("llama"))
