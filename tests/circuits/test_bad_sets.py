"""Sets that are damaged, contradict themselves, or mean harm: each is refused with its reason."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file

import circuits.formats
from circuits.errors import CircuitError, DamagedTranscoders, UnknownTranscoders
from circuits.formats import load
from tests.circuits import layouts
from tests.circuits.layouts import CASES, LAYERS, UNITS, WIDTH


def change(path: Path, **tensors: torch.Tensor) -> None:
    save_file({**load_file(path), **tensors}, path)


def configure(path: Path, **changes: object) -> None:
    config = yaml.safe_load(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config) if path.suffix == ".json" else yaml.safe_dump(config))


class Payload:
    """What runs when it is unpickled by a reader that lets it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def test_a_pickle_with_a_payload_runs_nothing_and_is_named(tmp_path: Path):
    trace = tmp_path / "it ran"
    for write, name in (
        (layouts.dunefsky, "final_*.0.*.pt"),
        (layouts.goodfire, "*.pth"),
        (layouts.qwen_scope, "*.pt"),
    ):
        folder = tmp_path / write.__name__
        folder.mkdir()
        write(folder)
        path = next(folder.glob(name))
        torch.save({"cfg": Payload(trace), "state_dict": {"W_enc": torch.zeros(3, 3)}}, path)
        with pytest.raises(DamagedTranscoders, match=r"asks to run \w+\.mkdir when it is opened.*Nothing was run"):
            load(folder)
    assert not trace.exists()


def test_a_class_that_a_pickle_may_name_is_an_empty_one(tmp_path: Path, monkeypatch):
    # As published: an instance of a class nobody has, beside the tensors.
    layouts.dunefsky(tmp_path)
    path = next(tmp_path.glob("*.0.*.pt"))
    tensors = torch.load(path, weights_only=True)["state_dict"]
    plain = load(tmp_path).W_enc[0]
    made = type("LanguageModelSAERunnerConfig", (), {"__module__": "sae_training.config"})
    module = ModuleType("sae_training.config")
    setattr(module, made.__name__, made)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sae_training", ModuleType("sae_training"))
        patch.setitem(sys.modules, "sae_training.config", module)
        held = made()
        vars(held)["d_in"] = WIDTH
        torch.save({"cfg": held, "state_dict": tensors}, path)

    torch.testing.assert_close(load(tmp_path).W_enc[0], plain)


def test_a_link_out_of_the_folder_is_refused_but_the_cache_of_the_hub_is_not(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    layouts.circuit_tracer_plt(elsewhere)
    folder = tmp_path / "set"
    folder.mkdir()
    for path in elsewhere.iterdir():
        (folder / path.name).symlink_to(path)
    with pytest.raises(DamagedTranscoders, match=r"is a link to .*outside the set's folder"):
        load(folder)

    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in elsewhere.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert load(snapshot).layers == LAYERS

    shared = tmp_path / "blobs" / "ab"  # beside all models: what several of them hold
    shared.mkdir(parents=True)
    for path in [path for path in blobs.iterdir() if path.suffix == ".safetensors"]:
        shutil.move(path, shared / path.name)
        path.symlink_to(Path("../../blobs/ab") / path.name)
    assert load(snapshot).layers == LAYERS
    (snapshot / "layer_0.safetensors").unlink()
    (snapshot / "layer_0.safetensors").symlink_to(elsewhere / "layer_0.safetensors")
    with pytest.raises(DamagedTranscoders, match=r"is a link to .*outside the set's folder"):
        load(snapshot)


@pytest.mark.parametrize(("write", "place"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_leftovers_of_downloads_and_papers_beside_a_set_change_nothing(tmp_path: Path, write, place: str):
    write(tmp_path)
    before = load(tmp_path / place)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        (path.parent / f"{path.name}.incomplete").write_bytes(path.read_bytes()[:20])
        kept = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.0a1b.incomplete"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(b"half")
    for name in ("README.md", ".gitattributes", "wanb-config.yaml", ".DS_Store"):
        (tmp_path / name).write_text("beside it")

    after = load(tmp_path / place)

    assert (after.content_hash, after.layers) == (before.content_hash, before.layers)


def test_two_layouts_in_one_folder_are_refused(tmp_path: Path):
    layouts.circuit_tracer_clt(tmp_path)
    layouts.circuit_tracer_plt(tmp_path)
    with pytest.raises(
        DamagedTranscoders, match=r"holds 2 layouts .circuit-tracer per-layer; circuit-tracer cross-layer"
    ):
        load(tmp_path)


def test_two_sets_in_one_folder_must_be_chosen_from(tmp_path: Path):
    layouts.gemma_scope_2(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        shutil.copytree(path, path.with_name(path.name.replace("small", "big")))
    with pytest.raises(DamagedTranscoders, match=r"holds 2 sets .width_16k_l0_big_affine, width_16k_l0_small_affine"):
        load(tmp_path)
    assert load(tmp_path / "width_16k_l0_big_affine").layers == LAYERS

    scope = tmp_path / "scope"
    layouts.gemma_scope(scope)
    shutil.copytree(
        scope / "layer_1" / "width_16k" / "average_l0_11", scope / "layer_1" / "width_16k" / "average_l0_99"
    )
    with pytest.raises(DamagedTranscoders, match="holds 2 sets for layer 1"):
        load(scope)


DAMAGES = {
    "wrong dtype": (
        layouts.circuit_tracer_plt,
        lambda f: change(f / "layer_1.safetensors", W_enc=torch.ones(UNITS, WIDTH, dtype=torch.int32)),
        "W_enc should hold floating point numbers, found torch.int32",
    ),
    "NaN weights": (
        layouts.circuit_tracer_clt,
        lambda f: change(f / "W_dec_1.safetensors", W_dec_1=torch.full((UNITS, LAYERS - 1, WIDTH), torch.nan)),
        "W_dec of layer 1 holds a NaN",
    ),
    "a missing layer": (
        layouts.gemma_scope_2_clt,
        lambda f: (f / "params_layer_1.safetensors").unlink(),
        "lacks params_layer_1.safetensors",
    ),
    "a missing last layer": (
        layouts.gemma_scope_2_clt,
        lambda f: (f / "params_layer_2.safetensors").unlink(),
        r"w_dec should be \(10, 2, 6\), found \(10, 3, 6\)",
    ),
    "a missing layer of a fork": (
        layouts.clt_training,
        lambda f: shutil.rmtree(f / "layers.1.mlp"),
        r"holds layers \[0, 2\], missing \[1\]",
    ),
    "W_dec the wrong way round": (
        layouts.saelens,
        lambda f: change(
            f / "blocks.1.ln2.hook_normalized" / "sae_weights.safetensors", W_dec=torch.ones(WIDTH, UNITS)
        ),
        r"W_dec should be|has 10 outputs|d_out",
    ),
    "a config contradicting its tensors": (
        layouts.gemma_scope_2_clt,
        lambda f: configure(f / "config.json", width=7),
        "says width 7, but its tensors have 30",
    ),
    "a k beyond the features": (
        layouts.sparsify,
        lambda f: configure(f / "layers.1.mlp" / "cfg.json", k=11),
        "k should be a whole number from 1 to 10, found 11",
    ),
    "a k that is no number": (
        layouts.circuit_tracer_topk,
        lambda f: configure(f / "config.yaml", k="many"),
        "k should be a whole number",
    ),
    "thresholds under a ReLU": (
        layouts.circuit_tracer_plt,
        lambda f: configure(f / "config.yaml", activation="relu"),
        "says activation relu, but .* holds thresholds",
    ),
    "a TopK without its k": (
        layouts.circuit_tracer_topk,
        lambda f: (f / "config.yaml").write_text((f / "config.yaml").read_text().replace("k: 3\n", "")),
        "says activation topk and no k",
    ),
    "a normalisation not known": (
        layouts.saelens,
        lambda f: configure(f / "blocks.0.ln2.hook_normalized" / "cfg.json", normalize_activations="layer_norm"),
        "normalize_activations 'layer_norm' is not known",
    ),
    "a transcoder that subtracts": (
        layouts.saelens,
        lambda f: configure(f / "blocks.0.ln2.hook_normalized" / "cfg.json", apply_b_dec_to_input=True),
        "apply_b_dec_to_input True is not known",
    ),
    "a tensor without a use": (
        layouts.sparsify,
        lambda f: change(f / "layers.0.mlp" / "sae.safetensors", gate=torch.ones(3)),
        "holds gate, which this layout does not know",
    ),
    "Lorsa": (
        layouts.llama_scope_2,
        lambda f: configure(f / "layer0_transcoder" / "config.json", sae_type="lorsa"),
        "Lorsa heads: they replace attention",
    ),
    "a hook that means two things": (
        layouts.saelens,
        lambda f: configure(
            f / "blocks.0.ln2.hook_normalized" / "cfg.json",
            metadata={"hook_name": "blocks.0.hook_mlp_in", "hook_name_out": "blocks.0.hook_mlp_out"},
        ),
        "hook_name should be one of .*, found 'blocks.0.hook_mlp_in'",
    ),
    "layers that read different tensors": (
        layouts.saelens,
        lambda f: configure(
            f / "blocks.2.ln2.hook_normalized" / "cfg.json",
            metadata={"hook_name": "blocks.2.hook_resid_mid", "hook_name_out": "blocks.2.hook_mlp_out"},
        ),
        "reads mlp_normalised, but .* reads residual_mid",
    ),
    "an address that climbs": (
        layouts.circuit_tracer_list,
        lambda f: configure(f / "wrapper" / "config.yaml", transcoders=["hf://google/scope/../../secret.npz"]),
        "an address should be hf://ORG/REPO/FILE",
    ),
}


@pytest.mark.parametrize(("write", "damage", "complaint"), DAMAGES.values(), ids=list(DAMAGES))
def test_each_damage_has_its_own_complaint(tmp_path: Path, write, damage, complaint: str):
    write(tmp_path)
    damage(tmp_path)
    place = next(place for _, writer, place in CASES if writer is write)
    with pytest.raises(DamagedTranscoders, match=complaint):
        load(tmp_path / place)


def test_a_file_that_is_nowhere_is_said_to_be_fetched(tmp_path: Path):
    layouts.circuit_tracer_list(tmp_path)
    shutil.rmtree(tmp_path / "google")
    with pytest.raises(UnknownTranscoders, match=r"neither beside it .* nor in the Hub's cache: fetch it"):
        load(tmp_path / "wrapper")


def test_a_square_decoder_is_refused(tmp_path: Path):
    square = {"W_enc": torch.ones(WIDTH, WIDTH), "W_dec": torch.ones(WIDTH, WIDTH)}
    square |= {"b_enc": torch.ones(WIDTH), "b_dec": torch.ones(WIDTH)}
    save_file(square, tmp_path / "layer_0.safetensors")
    with pytest.raises(DamagedTranscoders, match="which way round W_dec stands cannot be told"):
        load(tmp_path)
    layouts.write_yaml(tmp_path / "config.yaml", model_kind="transcoder_set")
    with pytest.raises(DamagedTranscoders, match="cannot be told, so it is refused"):
        load(tmp_path)


def test_a_nan_in_a_set_that_stays_in_its_files_is_found_when_it_is_used(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(circuits.formats, "IN_MEMORY", 0)
    layouts.circuit_tracer_clt(tmp_path)
    encoder = load_file(tmp_path / "W_enc_0.safetensors")["W_enc_0"]
    encoder[3, 2] = torch.nan
    change(tmp_path / "W_enc_0.safetensors", W_enc_0=encoder)
    with pytest.raises(DamagedTranscoders, match="W_enc of layer 0 holds a NaN"):
        load(tmp_path).activations(0, torch.randn(2, WIDTH))


def test_a_compressed_array_that_is_garbled_is_refused(tmp_path: Path):
    layouts.gemma_scope(tmp_path)
    path = next(tmp_path.glob("layer_1/*/*/params.npz"))  # the one that is written compressed
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(DamagedTranscoders, match="is no whole npz file"):
        load(tmp_path)


def test_every_cut_of_every_file_is_refused_and_never_a_crash(tmp_path: Path):
    for _, write, place in CASES:
        folder = tmp_path / f"{write.__name__}{place}"
        folder.mkdir()
        write(folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            whole = path.read_bytes()
            for kept in (0, 5, len(whole) // 2, len(whole) - 1):
                path.write_bytes(whole[:kept])
                if path.suffix in (".json", ".yaml") and kept == len(whole) - 1:
                    continue  # a YAML without its last newline is whole
                with pytest.raises((DamagedTranscoders, UnknownTranscoders)):
                    load(folder / place)
            path.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(case=some.sampled_from(CASES), data=some.data())
def test_noise_in_a_file_is_read_or_refused_and_never_a_crash(tmp_path: Path, case, data):
    _, write, place = case
    folder = tmp_path / "set"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(folder)
    path = data.draw(some.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, min(len(content), 600) - 1))
        content[at] = data.draw(some.integers(0, 255))
    path.write_bytes(content)
    try:
        load(folder / place)
    except CircuitError:
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    key=some.sampled_from(
        "architecture metadata hook_name d_in d_sae k num_latents n_targets type width activation model_kind "
        "transcoders feature_input_hook trainer buffer hook_point_in act_fn top_k l0 coalesce_topk transcode".split()
    ),
    value=some.recursive(
        some.none() | some.booleans() | some.integers(-5, 99) | some.text(max_size=5) | some.floats(),
        lambda inner: some.lists(inner, max_size=2) | some.dictionaries(some.text(max_size=3), inner, max_size=2),
        max_leaves=3,
    ),
    case=some.sampled_from(CASES),
)
def test_nonsense_in_a_configuration_is_read_or_refused_and_never_a_crash(tmp_path: Path, case, key: str, value):
    _, write, place = case
    folder = tmp_path / "set"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(folder)
    for path in [path for path in folder.rglob("*") if path.suffix in (".json", ".yaml")][:1]:
        configure(path, **{key: value})
    try:
        load(folder / place)
    except CircuitError:
        pass
