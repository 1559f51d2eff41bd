"""Models and sets from the Hub: only what is needed, only where there is room, and every refusal says what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from circuits.__main__ import main
from circuits.errors import NotFetched, UnknownModel, UnknownTranscoders
from circuits.formats import load
from circuits.hub.choosing import choose_model_files, choose_set_files, sets_among
from circuits.hub.fetching import Fetched, fetch_model, fetch_transcoders, read_address
from circuits.hub.published import SHIPPED
from circuits.model import load_model
from circuits.transcoders.loading import load_transcoders
from tests.circuits import layouts
from tests.circuits.fake_hub import FakeHub, running_hub, switch_on
from tests.circuits.layouts import CASES

NAMES = (
    "layer_0_width_16k_l0_small layer_1 width_16k average_l0_7 params.npz params.safetensors config.yaml config.json "
    "sae.safetensors checkpoints final.safetensors model.safetensors W_dec_0.safetensors features . .."
).split()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub() as found:
        switch_on(monkeypatch, found.address, tmp_path / "cache")
        yield found


def hold_set(hub: FakeHub, folder: Path, name: str = "org/set") -> Path:
    """A set in circuit-tracer's layout, with the dashboards that are published beside it."""
    folder.mkdir()
    layouts.circuit_tracer_plt(folder)
    (folder / "features").mkdir()
    (folder / "features" / "layer_0.bin").write_bytes(bytes(1000))
    (folder / "README.md").write_text("a set")
    hub.hold(name, folder)
    return folder


# -- which files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "place"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_of_every_layout_the_files_that_are_chosen_are_all_that_it_needs(tmp_path: Path, write, place: str):
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    write(whole)
    (whole / "README.md").write_text("what this is")
    (whole / "features").mkdir()
    weights = next(path for path in whole.rglob("*") if path.suffix in (".safetensors", ".npz", ".pt", ".pth"))
    shutil.copy(weights, whole / "features")
    files = {path.relative_to(whole).as_posix(): path.stat().st_size for path in whole.rglob("*") if path.is_file()}

    at, chosen = choose_set_files(files, place, "org/set")

    for path in chosen:
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / path, part / path)
    shutil.rmtree(whole / "features")
    if write is layouts.circuit_tracer_list:  # its weights are elsewhere
        assert chosen == ["wrapper/config.yaml"]
        return
    assert "README.md" not in chosen
    torch.testing.assert_close(load(part / at).W_enc[0], load(whole / place).W_enc[0])


def test_of_many_sets_in_a_repository_one_is_to_be_said():
    files = {
        f"{kind}/layer_{layer}_{variant}/{file}": size
        for kind in ("transcoder", "transcoder_all")
        for variant in ("width_16k_l0_small", "width_16k_l0_small_affine")
        for layer in range(3)
        for file, size in (("config.json", 100), ("params.safetensors", 10**9))
    }
    files["clt/width_262k_l0_big/params_layer_0.safetensors"] = 2 * 10**9
    assert len(sets_among(files)) == 5
    at, chosen = choose_set_files(files, "transcoder_all/width_16k_l0_small", "google/scope")
    assert at == "transcoder_all/width_16k_l0_small"
    assert chosen == [path for path in files if path.startswith("transcoder_all") and "affine" not in path]
    assert choose_set_files(files, "clt", "google/scope")[0] == "clt/width_262k_l0_big"
    assert len(choose_set_files(files, "transcoder/layer_1_width_16k_l0_small", "google/scope")[1]) == 2

    with pytest.raises(UnknownTranscoders, match=r"holds 5 sets, say which: .*/transcoder/width_16k_l0_small \(3.0 GB"):
        choose_set_files(files, "", "google/scope")
    with pytest.raises(UnknownTranscoders, match=r"there is no set google/scope/resid, but google/scope/clt/width"):
        choose_set_files(files, "resid", "google/scope")

    first = {f"layer_{i}/width_16k/average_l0_{n}/params.npz": 1 for i in range(2) for n in (7, 80)}
    with pytest.raises(UnknownTranscoders, match=r"holds 2 sets for layer_0 .*mntss/gemma-scope-transcoders"):
        choose_set_files(first, "", "google/gemma-scope-2b-pt-transcoders")


def test_of_a_model_the_weights_are_taken_once():
    files = dict.fromkeys(
        "config.json tokenizer.json merges.txt README.md pytorch_model.bin flax_model.msgpack onnx/model.onnx "
        "original/consolidated.00.pth".split(),
        5,
    )
    beside = ["config.json", "merges.txt", "tokenizer.json"]
    assert choose_model_files(files, "a/b") == sorted([*beside, "pytorch_model.bin"])
    assert choose_model_files({**files, "model.safetensors": 5}, "a/b") == sorted([*beside, "model.safetensors"])
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert choose_model_files({**files, **dict.fromkeys(shards, 5)}, "a/b") == sorted([*beside, *shards])
    with pytest.raises(UnknownModel, match=r"it has no config\.json"):
        choose_model_files({"model.safetensors": 5}, "a/b")
    with pytest.raises(UnknownModel, match="it has no weights"):
        choose_model_files({"config.json": 5}, "a/b")
    with pytest.raises(UnknownModel, match=r"holds transcoders, no model: -t a/b \(5 B\)"):
        choose_model_files({"layer_0.safetensors": 5}, "a/b")
    with pytest.raises(UnknownTranscoders, match="holds a model, no transcoders: give it with -m"):
        choose_set_files(files, "", "a/b")


@given(
    parts=some.lists(
        some.lists(some.sampled_from(NAMES) | some.text("layer_0123.w", max_size=6), min_size=1, max_size=4), max_size=8
    ),
    folder=some.sampled_from(["", "layer_0", "transcoder_all/width_16k_l0_small", "a/b"]),
)
def test_any_repository_is_chosen_from_or_refused_and_what_is_chosen_is_in_it(parts: list[list[str]], folder: str):
    files = dict.fromkeys(("/".join(each) for each in parts), 1)
    for chosen in sets_among(files).values():
        assert set(chosen) <= set(files)
    for choose in (lambda: choose_set_files(files, folder, "a/b")[1], lambda: choose_model_files(files, "a/b")):
        try:
            assert set(choose()) <= set(files)
        except LookupError:
            pass


def test_an_address_is_told_from_a_path_and_a_sentence():
    found = read_address("google/scope-2/all/width_16k@refs/pr/1")
    assert found is not None
    assert (found.repository, found.folder, found.revision) == ("google/scope-2", "all/width_16k", "refs/pr/1")
    assert str(found) == "google/scope-2/all/width_16k@refs/pr/1"
    for none in ("", "/a/b", "./a", "../a/b", "a/../b", "a b", "~/a", "a//b", "a/b/", "a@"):
        assert read_address(none) is None


# -- fetching ---------------------------------------------------------------------------------------------------------


def test_a_set_is_fetched_once_and_nothing_beside_it(hub: FakeHub, tmp_path: Path):
    folder = hold_set(hub, tmp_path / "set")
    told = []

    found = fetch_transcoders("org/set", progress=lambda *at: told.append(at))

    assert sorted(hub.fetched) == ["config.yaml", *(f"layer_{layer}.safetensors" for layer in range(3))]
    assert (found.files, found.new) == (4, found.size)
    assert told[-1][1:] == (found.size, found.size)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert (found.folder / "layer_0.safetensors").is_symlink()
    torch.testing.assert_close(load(found.folder).W_enc[0], load(folder).W_enc[0])

    hub.asked.clear()
    again = fetch_transcoders("org/set")
    assert again == Fetched(found.folder, found.files, found.size, new=0)
    assert not hub.asked
    assert fetch_transcoders("org/set", newest=True) == again
    assert not hub.fetched
    assert any(line.startswith("GET /api/models/org/set") for line in hub.asked)


def test_a_set_among_others_is_fetched_alone_and_read_from_where_it_lies(hub: FakeHub, tmp_path: Path):
    folder = tmp_path / "scope"
    layouts.gemma_scope_2(folder / "all")
    for path in sorted((folder / "all").iterdir()):
        shutil.copytree(path, path.with_name(path.name.replace("small", "big")))
    hub.hold("google/scope", folder)

    found = fetch_transcoders("google/scope/all/width_16k_l0_small_affine")

    assert len(hub.fetched) == 6
    assert all("small" in path for path in hub.fetched)
    assert load(found.folder).layers == 3


def test_a_list_brings_the_files_that_it_lists(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    layouts.circuit_tracer_list(tmp_path / "all")
    hub.hold("org/list", tmp_path / "all" / "wrapper")
    for owner in (path for path in (tmp_path / "all").iterdir() if path.name != "wrapper"):
        for repository in owner.iterdir():
            hub.hold(f"{owner.name}/{repository.name}", repository)

    found = fetch_transcoders("org/list")

    torch.testing.assert_close(load(found.folder).W_enc[2], load(tmp_path / "all" / "wrapper").W_enc[2])
    assert found.files == 4
    hub.asked.clear()
    assert fetch_transcoders("org/list").new == 0
    assert not hub.asked
    assert main(["transcoders", "org/list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["where"] == "cache"
    (found.folder / "config.yaml").resolve().write_text("transcoders: [hf://a/b/c]")
    assert main(["transcoders", "org/list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["where"] == "part in the cache"
    (found.folder / "config.yaml").resolve().write_text("epochs: 3")
    assert main(["transcoders", "org/list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_cut_connection_goes_on_where_it_was(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 64)  # bytes that are written at once
    folder = hold_set(hub, tmp_path / "set")
    hub.cut = {"layer_1.safetensors"}

    found = fetch_transcoders("org/set")

    half = (folder / "layer_1.safetensors").stat().st_size // 2
    assert hub.ranges == [f"bytes={half // 64 * 64}-"]
    assert (found.folder / "layer_1.safetensors").read_bytes() == (folder / "layer_1.safetensors").read_bytes()


def test_what_came_whole_is_kept_when_the_rest_fails(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hold_set(hub, tmp_path / "set")
    hub.broken, hub.first = {"layer_2.safetensors"}, {"config.yaml", "layer_0.safetensors", "layer_1.safetensors"}
    with pytest.raises(NotFetched, match=r"did not come from http.* Run it again: what was fetched whole is kept"):
        fetch_transcoders("org/set")
    assert main(["transcoders", "org/set"]) == 0
    assert capsys.readouterr().out.split()[0] == "org/set"
    assert main(["transcoders", "org/set", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["where"] == "part in the cache"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFetched, match=r"1 of the 4 files of org/set are not in the cache .*HF_HUB_OFFLINE"):
        fetch_transcoders("org/set")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    hub.broken, hub.asked = set(), []
    fetch_transcoders("org/set")
    assert hub.fetched == ["layer_2.safetensors"]


def test_a_leftover_of_a_cut_download_is_not_taken_for_a_file(hub: FakeHub, tmp_path: Path):
    hold_set(hub, tmp_path / "set")
    found = fetch_transcoders("org/set")
    blob = (found.folder / "layer_1.safetensors").resolve()
    blob.rename(blob.with_name(f"{blob.name}.0a1b2c3d.incomplete"))

    hub.asked.clear()
    assert load(fetch_transcoders("org/set").folder).layers == 3
    assert hub.fetched == ["layer_1.safetensors"]


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_without_room_nothing_is_begun(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hold_set(hub, tmp_path / "set")
    monkeypatch.setattr("circuits.hub.fetching.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        NotFetched, match=r"org/set needs .* kB of disk, and .* has 1.0 kB free.*hf cache ls.*HF_HUB_CACHE"
    ):
        fetch_transcoders("org/set")
    assert not hub.fetched


def test_a_disk_that_fills_up_meanwhile_is_named(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hold_set(hub, tmp_path / "set")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(NotFetched, match=r"the disk of .* is full: make room"):
        fetch_transcoders("org/set")


def test_what_is_gated_unknown_or_of_no_such_revision_is_told_apart(hub: FakeHub, tmp_path: Path):
    hub.repositories["org/secret"] = {"config.json": b"{}", "model.safetensors": b"weights"}
    hub.gated = {"org/secret"}
    with pytest.raises(NotFetched, match=r"org/secret is gated.*licence at http\S+/org/secret.*`hf auth login`"):
        fetch_model("org/secret")
    with pytest.raises(UnknownModel, match="org/secret is gated"):
        load_model("org/secret")
    with pytest.raises(NotFetched, match=r"the Hub has no Qwen/Qwen3-06B.*Did you mean .*Qwen/Qwen3-0.6B"):
        fetch_model("Qwen/Qwen3-06B")
    hold_set(hub, tmp_path / "set")
    with pytest.raises(NotFetched, match=r"org/set has no revision 'old'"):
        fetch_transcoders("org/set@old")
    with pytest.raises(UnknownModel, match="holds transcoders, no model"):
        fetch_model("org/set")
    with pytest.raises(NotFetched, match="is no address of the Hub: ORG/NAME is wanted"):
        fetch_model("no such")


def test_without_a_network_what_is_here_is_used_and_what_is_not_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with running_hub() as hub:
        switch_on(monkeypatch, hub.address, tmp_path / "cache")
        hold_set(hub, tmp_path / "set")
        found = fetch_transcoders("org/set")
    switch_on(monkeypatch, "http://127.0.0.1:1", tmp_path / "cache")  # nobody listens there
    assert fetch_transcoders("org/set") == Fetched(found.folder, found.files, found.size, new=0)
    with pytest.raises(NotFetched, match=r"org/other did not come from http.*Is there a network"):
        fetch_transcoders("org/other")
    # As another program leaves it, which kept no listing: whether it is whole cannot be told, and it has to do.
    shutil.rmtree(tmp_path / "cache" / "models--org--set" / "trees")
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    assert fetch_transcoders("org/set").folder == found.folder


def test_what_another_program_fetched_is_asked_about_once(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hold_set(hub, tmp_path / "set")
    found = fetch_transcoders("org/set")
    shutil.rmtree(tmp_path / "cache" / "models--org--set" / "trees")  # as an older huggingface_hub leaves it
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    hub.asked.clear()
    assert fetch_transcoders("org/set") == Fetched(found.folder, found.files, found.size, new=0)
    assert hub.asked and not hub.fetched
    hub.asked.clear()
    assert fetch_transcoders("org/set").folder == found.folder
    assert not hub.asked


def test_where_the_hub_is_switched_off_nobody_asks_it(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hold_set(hub, tmp_path / "set")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFetched, match=r"org/set is not in the cache on this machine .*copy models--org--set"):
        fetch_transcoders("org/set")
    assert not hub.asked


# -- from the front door ----------------------------------------------------------------------------------------------


def test_a_model_and_a_set_are_loaded_by_their_names_on_the_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, folder in (("model", "model"), ("set", "per-layer")):
        hub.hold(f"org/{name}", SHIPPED / "world" / folder)
    model = load_model("org/model", device="cpu")
    assert model.name == "org/model"
    tokens = model.tokenize("the capital of the state")[None]
    torch.testing.assert_close(model.run(tokens)[0], load_model("world", device="cpu").run(tokens)[0])
    held = load_transcoders("org/set@mlp_input", model, force=True)
    assert (held.name, held.content_hash) == (
        "org/set@mlp_input",
        load_transcoders("world", model, force=True).content_hash,
    )
    with pytest.raises(
        UnknownTranscoders, match=r"there are no transcoders 'org/none'.*On the Hub: the Hub has no org"
    ):
        load_transcoders("org/none", model)

    assert main(["models", "org/model"]) == 0
    assert capsys.readouterr().out.split() == ["org/model", "1.3", "MB", "in", "the", "cache"]
    assert main(["transcoders", "get", "org/set"]) == 0
    said = capsys.readouterr().out
    assert "all of it was here: 6 files" in said
    assert "circuits trace PROMPT -m MODEL -t org/set" in said


def test_the_shell_says_what_there_is(capsys: pytest.CaptureFixture[str]):
    assert main(["transcoders", "world", "cross"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[:6] == ["world/cross-layer", "for", "world", "cross-layer", "4", "layers"]
    assert first.endswith("shipped")
    assert main(["transcoders", "qwen", "nonsense"]) == 0
    assert "nothing known has 'qwen' and 'nonsense'" in capsys.readouterr().out
    assert main(["models", "world"]) == 0
    line, card, *_ = capsys.readouterr().out.splitlines()
    assert line.startswith("world ") and (SHIPPED / "world" / "MODEL_CARD.md").samefile(
        card.removeprefix("  its card: ")
    )
    assert main(["models"]) == 0
    assert "its card" not in capsys.readouterr().out
    for words in (["models", "get", "world"], ["transcoders", "get", "neurons"]):
        assert main(words) == 0
        assert "is here already: nothing is to be fetched" in capsys.readouterr().out
    assert main(["models", "get"]) == 2
    assert "get takes one name" in capsys.readouterr().err


def test_from_the_shell_it_goes_by_the_environment_and_without_torch(tmp_path: Path):
    with running_hub() as hub:
        hold_set(hub, tmp_path / "set")
        settings = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
        call = "import sys; from circuits.__main__ import main; code = main(sys.argv[1:])"
        light = "assert 'torch' not in sys.modules"
        done = subprocess.run(
            [sys.executable, "-c", f"{call}; {light}; sys.exit(code)", "transcoders", "get", "org/set", "--json"],
            env={**os.environ, **settings, "no_proxy": "*"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"].startswith(f"{tmp_path}/cache/models--org--set/snapshots/")
