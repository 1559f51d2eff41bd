"""circuit-tracer's `.pt` files read as graphs, without PyTorch and without running anything in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphs.errors import ForeignFile
from graphs.graph import AttributionGraph
from graphs.importing.archives import Archive, Inert, Name, Stored
from graphs.importing.assembling import assemble

# The classes that such a file may hold: the model's shape, under its name of today and those before, with numpy's
# numbers in the older ones; and a target.
ADMITTED = {
    Name("circuit_tracer.utils.tl_nnsight_mapping", "UnifiedConfig"): "object",
    Name("transformer_lens.HookedTransformerConfig", "HookedTransformerConfig"): "object",
    Name("transformer_lens.config.HookedTransformerConfig", "HookedTransformerConfig"): "object",
    Name("circuit_tracer.attribution.targets", "LogitTarget"): "tuple",
    Name("numpy._core.multiarray", "scalar"): "number",
    Name("numpy.core.multiarray", "scalar"): "number",
    Name("numpy", "dtype"): "number",
    Name("_codecs", "encode"): "number",
}
# What is kept of the model's shape.
SIZES = ("n_layers", "d_model", "d_head", "n_heads", "d_mlp", "d_vocab", "n_key_value_heads")
NAMES = ("tokenizer_name", "model_name", "original_architecture")
MOST_NODES = 2**20  # more would take 4 TiB
MOST_TOKENS = 2**16
MOST_ACTIVE = 2**24  # features that are active: there are thousands at a token


def read_circuit_tracer(path: Path) -> AttributionGraph:
    """The graph that circuit-tracer's `Graph.to_pt` wrote: rows of its matrix are targets, zeros are no edges.

    Features that were active but not traced are not in its matrix, so not in the graph; `provenance` says how many
    there were. The file has no texts of tokens: a token is called by its id.

    Raises:
        ForeignFile: it is none, or holds anything that no graph needs; nothing in it is run.

    Source: FORMATS 5.1.
    """
    record = Archive(path).value(ADMITTED)
    if not isinstance(record, dict):
        raise ForeignFile(f"{path} is no graph of circuit-tracer's: it holds no dictionary.")
    reader = _Reader(path, record)
    layers = reader.layers()
    tokens = reader.array("input_tokens", 1, MOST_TOKENS).tolist()
    active = reader.array("active_features", 2)
    chosen = reader.array("selected_features", 1, MOST_NODES)
    activations = reader.array("activation_values", 1, kinds="f")
    chances = reader.array("logit_probabilities", 1, kinds="f")
    targets = reader.targets()
    if active.shape[1] != 3 or len(activations) != len(active) or len(chances) != len(targets):
        raise ForeignFile(
            f"{path}: active_features should be of layer, position and feature, with as many activation_values, and "
            f"logit_targets as many as logit_probabilities; found shapes {active.shape}, {activations.shape}, "
            f"{len(targets)} and {chances.shape}."
        )
    if len(chosen) and not (0 <= chosen.min() and chosen.max() < len(active)):
        raise ForeignFile(f"{path}: selected_features should be rows of {len(active):,} active features.")
    features, length, count = active[chosen], len(tokens), len(targets)
    _check_features(path, features, layers, length)
    nodes = len(features) + (layers + 1) * length + count
    if nodes > MOST_NODES:
        raise ForeignFile(f"{path} has {nodes:,} nodes, {MOST_NODES:,} are the most that is read.")
    last = length - 1
    traced = zip(features.tolist(), activations[chosen].tolist(), strict=True)
    rows = [
        *(("feature", layer, at, unit, value, f"L{layer}/{unit}") for (layer, at, unit), value in traced),
        *(("error", layer, at, -1, 1.0, f"error L{layer}") for layer in range(layers) for at in range(length)),
        *(("token", -1, at, token, 1.0, f"#{token}") for at, token in enumerate(tokens)),
        *(
            ("logit", layers, last, token, chance, text)
            for (text, token), chance in zip(targets, chances.tolist(), strict=True)
        ),
    ]
    names = "kind layer position feature activation label".split()
    columns: dict[str, Any] = dict(zip(names, zip(*rows, strict=True), strict=True))
    links = reader.links(nodes)
    return assemble(
        path,
        [f"{kind} {unit} of layer {layer} at {at}" for kind, layer, at, unit, _, _ in rows],
        columns,
        [*[0.0] * (nodes - count), *chances.tolist()],
        links,
        token_ids=tuple(tokens),
        tokens=tuple(f"#{token}" for token in tokens),
        provenance=reader.provenance(len(active), len(features)),
    )


class _Reader:
    """What is in the dictionary of such a file, each part held to what it must be."""

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self._path, self._record = path, record

    def array(self, name: str, axes: int, most: int = MOST_ACTIVE, kinds: str = "iu") -> np.ndarray:
        """A small array, as int64 or float64."""
        found = self._record.get(name)
        if not isinstance(found, Stored) or len(found.shape) != axes or found.shape[0] > most:
            raise self._misfit(name, f"an array of {axes} {'axis' if axes == 1 else 'axes'}")
        whole = found.all()
        if whole.dtype.kind not in kinds:
            raise self._misfit(name, "an array of numbers" if kinds == "f" else "an array of whole numbers")
        if kinds == "f" and not np.isfinite(whole).all():
            raise self._misfit(name, "finite")
        return whole.astype(np.float64 if kinds == "f" else np.int64)

    def layers(self) -> int:
        """How many layers the model has."""
        config = self._record.get("cfg")
        found = config.state.get("n_layers") if isinstance(config, Inert) else None
        if type(found) is not int or not 0 < found < 10_000:
            raise self._misfit("cfg", "a configuration with n_layers")
        return found

    def targets(self) -> list[tuple[str, int]]:
        """Text and id of each logit; in older files there are only ids."""
        found = self._record.get("logit_targets", self._record.get("logit_tokens"))
        if isinstance(found, Stored):
            name = "logit_targets" if "logit_targets" in self._record else "logit_tokens"
            return [(f"#{token}", token) for token in self.array(name, 1, MOST_NODES).tolist()]
        pairs = []
        for each in found if isinstance(found, list) else [None]:
            match each.arguments if isinstance(each, Inert) else ():
                case (str(text), int(token)):
                    pairs.append((text or f"#{token}", token))
                case _:
                    raise self._misfit("logit_targets", "a list of texts and ids")
        return pairs

    def links(self, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is not zero in the matrix: sources are its columns, targets its rows."""
        matrix = self._record.get("adjacency_matrix")
        if not isinstance(matrix, Stored) or matrix.shape != (nodes, nodes) or matrix.dtype.kind not in "fu":
            raise self._misfit("adjacency_matrix", f"an array of {nodes:,} by {nodes:,} numbers")
        sources, targets, weights, first = [], [], [], 0
        for block in matrix.rows():
            target, source = np.nonzero(block)
            sources.append(source.astype(np.int32))
            targets.append((target + first).astype(np.int32))
            weights.append(block[target, source].astype(np.float64))
            first += len(block)
        return np.concatenate(sources), np.concatenate(targets), np.concatenate(weights)

    def provenance(self, active: int, traced: int) -> dict[str, Any]:
        """What the file says of its origin."""
        state = self._record["cfg"].state
        config = {name: each for name in SIZES if type(each := state.get(name)) is int and 0 <= each < 2**63}
        config |= {name: each for name in NAMES if _is_text(each := state.get(name))}
        scan, said, vocabulary = (self._record.get(name) for name in ("scan", "input_string", "vocab_size"))
        several = isinstance(scan, list) and all(_is_text(each) for each in scan)
        made: dict[str, Any] = {"active": active, "traced": traced}
        made |= {"model": config["model_name"]} if config.get("model_name") else {}
        made |= {"transcoders": scan} if _is_text(scan) else {}
        made |= {"prompt": said} if _is_text(said) else {}
        return {
            **made,
            "imported": {
                "format": "circuit-tracer",
                "file": self._path.name,
                "cfg": config,
                "scan": scan if several or _is_text(scan) else None,
                "vocab_size": vocabulary if type(vocabulary) is int and 0 < vocabulary < 2**63 else None,
            },
        }

    def _misfit(self, name: str, wanted: str) -> ForeignFile:
        return ForeignFile(f"{self._path} is no graph of circuit-tracer's: {name} should be {wanted}.")


def _check_features(path: Path, features: np.ndarray, layers: int, length: int) -> None:
    """Each is a unit of the model at a place in the prompt, and there once."""
    outside = features[((features < 0) | (features >= [layers, length, 2**63 - 1])).any(axis=1)]
    found, times = np.unique(features, axis=0, return_counts=True)
    for wrong, why in ((outside, f"of {layers} layers and {length} tokens"), (found[times > 1], "there once")):
        for layer, at, unit in wrong[:1].tolist():
            raise ForeignFile(f"{path}: each feature should be {why}, found feature {unit} of layer {layer} at {at}.")


def _is_text(value: Any) -> bool:
    """Whether it is a text that JSON and a terminal take."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False
