"""Which files of a repository on the Hub a model or a transcoder set needs: by their names, before any is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

from circuits.errors import UnknownModel, UnknownTranscoders
from circuits.sizes import size_in_words

# What transformers reads of a model besides its weights.
_BESIDE = re.compile(
    r"config\.json|generation_config\.json|tokenizer.*|vocab.*|merges\.txt|special_tokens_map\.json|"
    r"added_tokens\.json|chat_template.*|tekken\.json|.+\.tiktoken|.+\.model"
)
# Weights of a model, the first that is there: one file, or an index and its shards.
_WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"),
    re.compile(r"[^/]+\.(safetensors|pt|pth)"),  # TransformerLens's own
)

# Weights of a set, as the layouts of `circuits.formats` name them, and how many folders up the set itself lies.
_LAYERS = re.compile(r"(layer_\d+|W_(enc|dec)_\d+|(en|de)coder_layer_\d+|params_layer_\d+)\.safetensors")
_SINGLE = re.compile(r"final_sparse_autoencoder_.+\.pt|layer\d+\.sae\.pt|ae\.pt|.+-l\d+\.pth")
_FOLDERS = re.compile(r"sae\.safetensors|sae_weights\.safetensors")
_SETTINGS = ("config.yaml", "config.json", "cfg.json", "hyperparams.json", "labels.json", "labels.json.gz")
_SCOPE = re.compile(r"(?:(.*)/)?layer_\d+/width_[^/]+/average_l0_\d+/params\.npz")
_SCOPE_2 = re.compile(r"(?:(.*)/)?layer_\d+_([^/]+)/params\.safetensors")
SHOWN = 12  # sets listed where one is to be chosen


def choose_model_files(files: Mapping[str, int], repository: str) -> list[str]:
    """The files of a model, of all those in its repository: weights in one form, tokenizer, configuration.

    files: each path in the repository, and its bytes.

    Raises:
        UnknownModel: there is no config.json, or there are no weights.
    """
    weights = next((found for form in _WEIGHTS if (found := [path for path in files if form.fullmatch(path)])), [])
    if "config.json" not in files or not weights:
        if sets := sets_among(files):
            raise UnknownModel(f"{repository} holds transcoders, no model: -t {_listed(repository, sets, files)}.")
        lacks = "weights" if "config.json" in files else "config.json"
        raise UnknownModel(f"{repository} holds no model that can be read: it has no {lacks}.")
    return sorted({*weights, *(path for path in files if _BESIDE.fullmatch(path))})


def choose_set_files(files: Mapping[str, int], folder: str, repository: str) -> tuple[str, list[str]]:
    """Where in its repository the set is that a folder's name means, and the files that it needs.

    Of Gemma Scope 2, which has many sets side by side in one folder, a set is FOLDER/VARIANT
    (transcoder_all/width_16k_l0_small).

    Raises:
        UnknownTranscoders: no set is there, or several are: the message lists them.
    """
    name, under = (f"{repository}/{folder}", f"{folder}/") if folder else (repository, "")
    sets = sets_among(files)
    chosen = {folder: sets[folder]} if folder in sets else {at: sets[at] for at in sets if at.startswith(under)}
    if not chosen:  # the folder of one layer
        within = sorted({path for paths in sets.values() for path in paths if path.startswith(under)})
        chosen = {folder: within} if within else {}
    if not chosen and sets:
        raise UnknownTranscoders(f"there is no set {name}, but {_listed(repository, sets, files)}.")
    if not chosen:
        what = "a model, no transcoders: give it with -m" if "config.json" in files else "no transcoders known here"
        raise UnknownTranscoders(f"{name} holds {what}.")
    if len(chosen) > 1:
        raise UnknownTranscoders(f"{name} holds {len(chosen)} sets, say which: {_listed(repository, chosen, files)}.")
    at, paths = next(iter(chosen.items()))
    _check_one_of_each_layer(paths, name)
    return at, paths


def sets_among(files: Iterable[str]) -> dict[str, list[str]]:
    """Every set in a repository, by the folder that it lies in ("" is the whole): the files it needs."""
    paths = [path for path in files if "features" not in PurePosixPath(path).parts[:-1]]  # dashboards
    weights: dict[str, list[str]] = {}
    lists = []
    for path in paths:
        at = _set_of(path)
        if at is not None:
            weights.setdefault(at, []).append(path)
        elif PurePosixPath(path).name == "config.yaml":
            lists.append(path)  # of files kept elsewhere, where no weights lie beside it
    for path in lists:
        at = _parent(path)
        if not any(_parent(each) == at for found in weights.values() for each in found):
            weights.setdefault(at, [])
    found = {}
    for at, those in weights.items():
        places = {at, *(_parent(path) for path in those)}
        settings = [path for path in paths if PurePosixPath(path).name in _SETTINGS and _parent(path) in places]
        found[at] = sorted({*those, *settings})
    return dict(sorted(found.items()))


def split_address(address: str) -> tuple[str, str, str | None] | None:
    """Repository, file and revision of hf://ORG/NAME/FILE?revision=R, as circuit-tracer lists files; else None."""
    url = urlsplit(address)
    parts = PurePosixPath(url.netloc + url.path).parts
    if url.scheme != "hf" or len(parts) < 3 or ".." in parts:
        return None
    return "/".join(parts[:2]), "/".join(parts[2:]), parse_qs(url.query).get("revision", [None])[0]


def _set_of(path: str) -> str | None:
    """The folder of the set that a file of weights belongs to; None for any other file."""
    name, parent = PurePosixPath(path).name, _parent(path)
    if (scope := _SCOPE.fullmatch(path)) is not None:
        return scope[1] or ""
    if (scope := _SCOPE_2.fullmatch(path)) is not None:
        return f"{scope[1]}/{scope[2]}" if scope[1] else scope[2]
    if _LAYERS.fullmatch(name) or _SINGLE.fullmatch(name):
        return parent
    if _FOLDERS.fullmatch(name) or path.endswith("checkpoints/final.safetensors"):
        return _parent(parent)
    return None


def _check_one_of_each_layer(paths: Iterable[str], name: str) -> None:
    """Gemma Scope has several sparsities of every layer in one folder, each layer its own."""
    seen: dict[str, list[str]] = {}
    for path in paths:
        if _SCOPE.fullmatch(path):
            layer, rest = path.split("/width_")[0], f"width_{path.split('/width_')[1]}"
            seen.setdefault(layer, []).append(_parent(rest))
    for layer, some in seen.items():
        if len(some) > 1:
            raise UnknownTranscoders(
                f"{name} holds {len(some)} sets for {layer} ({', '.join(some[:6])}): one is wanted of each layer. "
                "Give a list of them: mntss/gemma-scope-transcoders is circuit-tracer's, of those with the lowest L0."
            )


def _listed(repository: str, sets: Mapping[str, list[str]], files: Mapping[str, int]) -> str:
    """Sets by name, with what they weigh."""
    shown = [
        f"{repository}/{at}".rstrip("/") + f" ({size_in_words(sum(files[path] for path in sets[at]))})"
        for at in list(sets)[:SHOWN]
    ]
    return ", ".join(shown) + (f" and {len(sets) - SHOWN} more" if len(sets) > SHOWN else "")


def _parent(path: str) -> str:
    at = str(PurePosixPath(path).parent)
    return "" if at == "." else at
