"""The graph as a `.pt` file that circuit-tracer's own `Graph.from_pt` loads, written without PyTorch."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.errors import BadGraph
from graphs.graph import AttributionGraph
from graphs.nodes import OF_ATTENTION
from graphs.prompts import prompt_of

if TYPE_CHECKING:
    from graphs.assays import Assay

UNITS = ("feature", "neuron")
LEFT_OUT = ("bias", "unselected")  # it has no word for either
ROOM = ("token", "error", "logit", "direction", *UNITS, *LEFT_OUT)
BLOCK = 2**24  # numbers of the matrix that are held at a time
SIZES = ("d_model", "d_head", "n_heads", "d_mlp")
STORAGES = {np.dtype("<f4"): "FloatStorage", np.dtype("<i8"): "LongStorage"}


def write_circuit_tracer(graph: AttributionGraph, path: Path, *, assay: Assay | None = None) -> None:
    """What circuit-tracer's `Graph.to_pt` would have written of the same graph.

    Its matrix is dense, of float32, with a row for every error there could be: (features + (layers + 1) × tokens +
    logits)² × 4 bytes. It knows features, errors, tokens and logits; biases are left out, and untraced features with
    them, as it leaves them out itself. Of the model it says what is known: sizes are 0 where the graph came from
    elsewhere than from one of its files. A target that is no token gets a number beyond the vocabulary, as there.

    Raises:
        BadGraph: there are nodes of a kind that it has no room for, or two where it has one.

    Source: FORMATS 5.1.
    """
    nodes = graph.nodes
    strange = sorted(set(nodes.kind.tolist()) - set(ROOM))
    if (nodes.kind[nodes.feature == OF_ATTENTION] == "error").any():
        strange.append("error of attention")
    if strange:
        raise BadGraph(
            f"a file of circuit-tracer's has no room for nodes of the kind {', '.join(strange)}: "
            "write .json or .graphml instead."
        )
    features, logits = nodes.where(*UNITS), nodes.where("logit", "direction")
    length = len(graph.tokens)
    aims = np.flatnonzero((graph.goal != 0) & ~np.isin(nodes.kind, ("logit", "direction")))
    if len(aims) or not len(logits):
        raise BadGraph("a file of circuit-tracer's explains logits; this graph explains something else: write .json.")
    layers = int(nodes.layer[logits].max())
    rows = _rows(graph, features, logits, layers, length)
    said = graph.provenance.get("imported")
    known = said if isinstance(said, Mapping) and said.get("format") == "circuit-tracer" else {}
    vocabulary = known.get("vocab_size") or _vocabulary(graph, logits)
    ids = nodes.feature[logits].tolist()
    targets = [
        _Made(
            "circuit_tracer.attribution.targets LogitTarget", (str(nodes.label[row]), id if id >= 0 else vocabulary + n)
        )
        for n, (row, id) in enumerate(zip(logits.tolist(), ids, strict=True))
    ]
    active = np.stack([nodes.layer[features], nodes.position[features], nodes.feature[features]], axis=1)
    count = len(features) + (layers + 1) * length + len(logits)
    scan = known.get("scan") or graph.provenance.get("transcoders")
    record = {
        "input_string": prompt_of(graph),
        "adjacency_matrix": _Matrix(graph, rows, count),
        "cfg": _config(graph, known, layers, vocabulary),
        "active_features": active.astype("<i8"),
        "logit_targets": targets,
        "logit_probabilities": graph.goal[logits].astype("<f4"),
        "vocab_size": vocabulary,
        "input_tokens": np.array(graph.token_ids, dtype="<i8"),
        "selected_features": np.arange(len(features), dtype="<i8"),
        "activation_values": nodes.activation[features].astype("<f4"),
        "scan": scan if isinstance(scan, list) else str(scan) if scan else None,
    }
    _write(path, record)


def _rows(graph: AttributionGraph, features: np.ndarray, logits: np.ndarray, layers: int, length: int) -> np.ndarray:
    """Where each node stands in the matrix, -1 for what is left out. [node]"""
    nodes = graph.nodes
    errors, tokens = nodes.where("error"), nodes.where("token")
    place = np.full(len(nodes), -1)
    place[features] = np.arange(len(features))
    place[errors] = len(features) + nodes.layer[errors] * length + nodes.position[errors]
    place[tokens] = len(features) + layers * length + nodes.position[tokens]
    place[logits] = len(features) + (layers + 1) * length + np.arange(len(logits))
    _, times = np.unique(place[place >= 0], return_counts=True)
    inner = np.concatenate([features, errors])
    outside = inner[(nodes.layer[inner] < 0) | (nodes.layer[inner] >= layers) | (nodes.position[inner] < 0)]
    if (times > 1).any() or len(outside):
        raise BadGraph("two nodes stand where circuit-tracer has room for one, or one where it has none: write .json.")
    return place


def _vocabulary(graph: AttributionGraph, logits: np.ndarray) -> int:
    """The least size of a vocabulary that holds every token in sight."""
    return 1 + max([0, *graph.token_ids, *graph.nodes.feature[logits].tolist()])


def _config(graph: AttributionGraph, known: Mapping[str, Any], layers: int, vocabulary: int) -> _Made:
    said = known.get("cfg") or {}
    name = str(graph.provenance.get("model") or "")
    state = {
        "n_layers": layers,
        **{each: int(said.get(each) or 0) for each in SIZES},
        "d_vocab": int(said.get("d_vocab") or vocabulary),
        "tokenizer_name": str(said.get("tokenizer_name") or name),
        "model_name": str(said.get("model_name") or name),
        "original_architecture": str(said.get("original_architecture") or ""),
        "n_key_value_heads": said.get("n_key_value_heads"),
        "dtype": None,
    }
    return _Made("circuit_tracer.utils.tl_nnsight_mapping UnifiedConfig", (), state)


@dataclass(frozen=True)
class _Made:
    """An object of a class by name, made of these and then given a state."""

    kind: str
    arguments: tuple
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The edges as a dense matrix, rows are targets, some rows at a time."""

    graph: AttributionGraph
    place: np.ndarray
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.count

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<f4")

    def blocks(self) -> Iterator[np.ndarray]:
        source, target = self.place[self.graph.source], self.place[self.graph.target]
        stays = np.flatnonzero((source >= 0) & (target >= 0))
        stays = stays[np.argsort(target[stays], kind="stable")]
        source, target, weight = source[stays], target[stays], self.graph.weight[stays]
        step = max(BLOCK // max(self.count, 1), 1)
        for first in range(0, self.count, step):
            block = np.zeros((min(step, self.count - first), self.count), dtype=self.dtype)
            begin, end = np.searchsorted(target, [first, first + len(block)])
            block[target[begin:end] - first, source[begin:end]] = weight[begin:end]
            yield block


def _write(path: Path, record: Mapping[str, Any]) -> None:
    """The zip that `torch.save` makes: a pickle, each array as it lies in memory, and two words on the format."""
    arrays: list[Any] = []
    stream = b"\x80\x02" + _pickled(record, arrays) + b"."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", stream), ("byteorder", b"little")):
            archive.writestr(_entry(name), content)
        for number, array in enumerate(arrays):
            with archive.open(_entry(f"data/{number}"), "w", force_zip64=True) as file:
                for block in array.blocks() if isinstance(array, _Matrix) else [array]:
                    file.write(np.ascontiguousarray(block).tobytes())
        archive.writestr(_entry("version"), b"3\n")


def _entry(name: str) -> zipfile.ZipInfo:
    """Of no time, so that the same graph makes the same file."""
    return zipfile.ZipInfo(f"graph/{name}", (1980, 1, 1, 0, 0, 0))


def _pickled(value: Any, arrays: list[Any]) -> bytes:
    """The instructions of pickle's protocol 2 that make this value; arrays go to the list, by number."""
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        size = (value.bit_length() + 8) // 8
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + _all(value, arrays) + b"t"
    if isinstance(value, list):
        return b"](" + _all(value, arrays) + b"e"
    if isinstance(value, Mapping):
        return b"}(" + _all([each for pair in value.items() for each in pair], arrays) + b"u"
    if isinstance(value, _Made):
        made = _named(value.kind) + _pickled(value.arguments, arrays) + b"\x81"
        return made if value.state is None else made + _pickled(value.state, arrays) + b"b"
    arrays.append(value)
    return _pickled_array(value.shape, value.dtype, str(len(arrays) - 1))


def _pickled_array(shape: tuple[int, ...], dtype: np.dtype, key: str) -> bytes:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    count = int(np.prod(shape, dtype=np.int64))
    storage = b"(" + _all(["storage"], []) + _named(f"torch {STORAGES[dtype]}") + _all([key, "cpu", count], []) + b"tQ"
    about = _all([0, tuple(int(n) for n in shape), tuple(strides), False], [])
    return (
        _named("torch._utils _rebuild_tensor_v2") + b"(" + storage + about + _named("collections OrderedDict") + b")RtR"
    )


def _all(values: Sequence[Any], arrays: list[Any]) -> bytes:
    return b"".join(_pickled(each, arrays) for each in values)


def _named(name: str) -> bytes:
    module, kind = name.split(" ")
    return f"c{module}\n{kind}\n".encode()
