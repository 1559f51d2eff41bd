"""circuit-tracer's `.pt` files: read as they are, written as they would be, and nothing in them is ever run."""

from __future__ import annotations

import io
import pickle
import pickletools
import shlex
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from benchmarks.peers.processes import environment, is_installed
from graphs import Store, export, scores
from graphs.errors import BadGraph, ForeignFile
from graphs.export import circuit_tracer as writing
from graphs.folders import content_of
from graphs.graph import AttributionGraph
from graphs.importing import archives, import_graph
from graphs.importing import circuit_tracer as reading
from graphs.importing.archives import Archive
from graphs.naming import name_of
from graphs.nodes import OF_ATTENTION
from tests.graphs.foreign import page_graph, written
from tests.worlds import graph_of

PEER = "circuit_tracer"


@pytest.fixture
def graph(tmp_path):
    return import_graph(written(tmp_path / "x.json", page_graph()))


@pytest.fixture
def file(graph, tmp_path):
    return export(graph, tmp_path / "x.pt")


def weights(graph: AttributionGraph) -> dict[tuple[str, str], float]:
    names = [name_of(graph, row) for row in range(len(graph.nodes))]
    ends = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    return {(names[source], names[target]): weight for source, target, weight in ends}


def test_what_was_written_is_read_and_written_the_same(graph, file, tmp_path):
    found = import_graph(file)

    assert weights(found) == weights(graph)
    assert len(found.nodes) == 3 + (2 + 1) * 2 + 2  # a row for every error that there could be
    assert found.goal[-2:].tolist() == pytest.approx([0.6, 0.3])
    assert found.nodes.label[-2:].tolist() == [" x", "y"]
    assert (found.token_ids, found.tokens) == ((5, 6), ("#5", "#6"))
    assert found.provenance["model"] == "toy-2l"
    assert scores(found).replacement == pytest.approx(scores(graph).replacement)
    assert export(found, tmp_path / "y.pt").read_bytes() == export(found, tmp_path / "z.pt").read_bytes()
    assert content_of(import_graph(tmp_path / "y.pt")) == content_of(found)
    store = Store(tmp_path / "store")
    assert content_of(store.load(store.save(found))) == content_of(found)


def test_biases_and_untraced_features_are_left_out_and_what_has_no_room_is_refused(tmp_path):
    #   token 0 --1--> feature 1 --1--> logit 4 <--1-- bias 2, unselected 3
    whole = graph_of([(0, 1, 1), (1, 4, 1), (2, 4, 1), (3, 4, 1)], "token feature bias unselected logit")
    assert weights(import_graph(export(whole, tmp_path / "x.pt"))) == {
        ("L-1/7@0", "L1/1@0"): 1.0,
        ("L1/1@0", "L5/4@0"): 1.0,
    }

    heads = graph_of([(0, 1, 1), (1, 2, 1)], "token head logit")
    with pytest.raises(BadGraph, match="no room for nodes of the kind head: write"):
        export(heads, tmp_path / "x.pt")
    with pytest.raises(BadGraph, match="explains something else"):
        export(graph_of([(0, 1, 1)], "token feature", goal=[0.0, 1.0]), tmp_path / "x.pt")
    with pytest.raises(BadGraph, match="explains something else"):
        export(graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit", goal=[0.0, 0.5, 0.5]), tmp_path / "x.pt")
    twins = graph_of([(0, 1, 1), (0, 2, 1), (1, 3, 1), (2, 3, 1)], "token error error logit")
    twins = import_twins(twins)
    with pytest.raises(BadGraph, match="two nodes stand where"):
        export(twins, tmp_path / "x.pt")


def import_twins(graph: AttributionGraph) -> AttributionGraph:
    """The same with both errors in one place."""
    return replace(graph, nodes=graph.nodes.with_columns(layer=np.array([-1, 0, 0, 3], dtype=np.int32)))


def test_torch_reads_the_same_numbers(file):
    torch = pytest.importorskip("torch")
    with zipfile.ZipFile(file) as archive:
        assert all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # the same on any day
    stand_ins = {
        name: type(name, (), {"__new__": lambda cls, *_: object.__new__(cls)})
        for name in ("UnifiedConfig", "LogitTarget")
    }

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return stand_ins.get(name) or super().find_class(module, name)

    door = SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")
    found = torch.load(file, weights_only=False, pickle_module=door)

    matrix = found["adjacency_matrix"].numpy()
    assert matrix.shape == (11, 11) and matrix.dtype == np.float32
    assert matrix[0, 7] == 2.0  # token a, after three features and four errors, to the first feature
    assert found["active_features"].tolist() == [[0, 1, 1], [1, 0, 90], [1, 1, 7]]
    assert found["activation_values"].tolist() == [2.5, 0.5, 1.5]
    assert found["input_tokens"].tolist() == [5, 6]


SHAPE = {"n_layers": 2, "d_model": 8, "d_head": 4, "n_heads": 2, "d_mlp": 32, "d_vocab": 50, "model_name": "toy"}


@pytest.mark.parametrize("older", [False, True], ids=["of today", "older"])
def test_what_torch_itself_writes_is_read(graph, file, tmp_path, monkeypatch, older):
    torch = pytest.importorskip("torch")
    home = "transformer_lens.HookedTransformerConfig" if older else "circuit_tracer.utils.tl_nnsight_mapping"
    config = made_at(monkeypatch, home, "HookedTransformerConfig" if older else "UnifiedConfig", object)()
    config.__dict__ |= {**SHAPE, "dtype": torch.float32}
    if older:
        config.__dict__ |= {"attn_scale": np.sqrt(8), "device": torch.device("cpu")}
    target = made_at(monkeypatch, "circuit_tracer.attribution.targets", "LogitTarget", tuple)
    with zipfile.ZipFile(file) as archive:
        matrix = np.frombuffer(archive.read("graph/data/0"), dtype=np.float32).reshape(11, 11)
    assert matrix[0, 7] == 2.0
    targets = (
        {"logit_tokens": torch.tensor([11, 12])}
        if older
        else {"logit_targets": [target((" x", 11)), target(("y", 12))]}
    )
    record = {
        "input_string": "a b",
        "adjacency_matrix": torch.from_numpy(matrix.copy()).to(torch.bfloat16 if older else torch.float32),
        "cfg": config,
        "active_features": torch.tensor([[0, 1, 1], [0, 1, 4], [1, 0, 90], [1, 1, 7]]),
        **targets,
        "logit_probabilities": torch.tensor([0.6, 0.3]),
        "vocab_size": 50,
        "input_tokens": torch.tensor([5, 6]),
        "selected_features": torch.tensor([0, 2, 3]),
        "activation_values": torch.tensor([2.5, 9.0, 0.5, 1.5]),
        "scan": ["one", "two"],
    }
    torch.save(record, tmp_path / "theirs.pt")

    found = import_graph(tmp_path / "theirs.pt")

    assert weights(found) == weights(graph)
    assert found.nodes.activation[found.nodes.where("feature")].tolist() == [2.5, 0.5, 1.5]
    assert found.nodes.label[-2:].tolist() == (["#11", "#12"] if older else [" x", "y"])
    assert (found.provenance["active"], found.provenance["traced"]) == (4, 3)
    assert found.provenance["imported"]["cfg"] == SHAPE
    assert found.provenance["imported"]["scan"] == ["one", "two"]
    assert import_graph(export(found, tmp_path / "ours.pt")).provenance["imported"]["scan"] == ["one", "two"]


def made_at(monkeypatch, module: str, name: str, base: type) -> type:
    """A class that pickles find under that name, as long as the test runs."""
    made = type(
        name, (base,), {"__module__": module, "__getnewargs__": lambda self: tuple(self) if base is tuple else ()}
    )
    if base is tuple:
        made.__new__ = lambda cls, *values: tuple.__new__(cls, values[0] if len(values) == 1 else values)
    for parent in (module.rpartition(".")[0].rpartition(".")[0], module.rpartition(".")[0]):
        if parent and parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    home = ModuleType(module)
    setattr(home, name, made)
    monkeypatch.setitem(sys.modules, module, home)
    return made


# -- Files that mean harm ----------------------------------------------------------------------------------------------


def rewritten(file: Path, stream: bytes | None = None, **records: bytes) -> Path:
    """The same file with another pickle, or another record by its name within data/."""
    with zipfile.ZipFile(file) as archive:
        content = {each.filename: archive.read(each) for each in archive.infolist()}
    if stream is not None:
        content["graph/data.pkl"] = stream
    content |= {f"graph/data/{name}": record for name, record in records.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, record in content.items():
            archive.writestr(name, record)
    return file


def stream_of(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        return archive.read("graph/data.pkl")


class Harm:
    """What runs a command when it is unpickled."""

    def __init__(self, called, *arguments):
        self.reduced = called, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(file, tmp_path, protocol):
    import os

    harm = {"scan": Harm(os.system, f"touch {shlex.quote(str(tmp_path / 'harmed'))}")}
    stream = pickle.dumps(harm, protocol=protocol)

    with pytest.raises(ForeignFile, match=r"Nothing in it was run") as refusal:
        import_graph(rewritten(file, stream))

    assert not (tmp_path / "harmed").exists()
    assert "system" in str(refusal.value) or "instruction" in str(refusal.value)
    pickle.loads(stream)  # it would have
    assert (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"\x80\x02cbuiltins\neval\n.", r"builtins\.eval"),
        (b"\x80\x02ctorch\nload\n.", r"torch\.load"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "_load_from_bytes"),
        (b"\x80\x02ccircuit_tracer.graph\nGraph\n.", r"circuit_tracer\.graph\.Graph"),
        (b"\x80\x02ccollections\nOrderedDict\n(ctorch\nfloat32\ntR.", "makes a dictionary of something"),
        (b"\x80\x02}(K\x01K\x02u.", "keys are no texts"),
        (b"\x80\x02K\x01K\x02K\x03b.", "gives a state to what has none"),
        (b"\x80\x02K\x01)R.", "calls what is no name"),
        (b"\x80\x02ctorch\nfloat32\n)R.", r"calls torch\.float32"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "makes no sense"),
        (b"\x80\x02(ttttt", "has no end|makes no sense"),
        (b"\x80\x02h\x05.", "makes no sense"),
        (b"\x80\x02\x8a\xff.", "makes no sense"),
        (b"\x80\x04\x8c\x01a)\x93.", "what is no name"),
        (b"\x80\x02K\x05.", "holds no dictionary"),
        (b"\x80\x02}.", "cfg should be a configuration"),
        (b"\x80\x02" + b"]" * 5_000 + b"a" * 4_999 + b".", "holds no dictionary"),  # as deep as it is long
        (b"\x80\x02)" + b"\x85" * 20_000 + b"K\x01s.", "keys are no texts|fills what is no|makes no sense"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "makes no sense"),  # so many bytes, it says
        (b"\x80\x02(ios\nsystem\n.", "instruction INST"),
        (b"\x80\x02(cos\nsystem\no.", r"os\.system"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02Pa\n.", "instruction PERSID"),
        (b"\x80\x04)}\x92.", "instruction NEWOBJ_EX"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nctorch._utils\n_rebuild_tensor_v2\nb.", "state to what has none"),
        (b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aNsb.", "state to what has none"),
        (b"\x80\x02(X\x07\x00\x00\x00storageclos\nsystem\ntQ.", r"los\.system"),
        (b"\x80\x02)r\xff\xff\xff\x7f.", "holds no dictionary"),  # remembered at a place that would take 16 GB
        (b"", "has no end|makes no sense"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(file, stream, said):
    with pytest.raises(ForeignFile, match=said) as refusal:
        import_graph(rewritten(file, stream))

    assert str(file) in str(refusal.value)


def test_a_zip_bomb_does_not_swell(file, monkeypatch):
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph/bomb", b"\0" * 2**20)
    assert import_graph(file)  # what no graph needs is not looked at

    with zipfile.ZipFile(file) as archive:
        content = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("graph/data.pkl", b"\0" * 2**24, zipfile.ZIP_DEFLATED)
        for name in content.keys() - {"graph/data.pkl", "graph/byteorder"}:
            archive.writestr(name, content[name])
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it is read"))
    with pytest.raises(ForeignFile, match=r"is compressed, from 1\d,\d{3} bytes to 16,777,216"):
        import_graph(file)


def test_a_directory_of_millions_of_records_is_not_even_read(file, monkeypatch):
    content = bytearray(file.read_bytes())
    at = content.rfind(b"PK\5\6")
    content[at + 12 : at + 16] = struct.pack("<L", 2**30)
    file.write_bytes(content)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it is read"))

    with pytest.raises(ForeignFile, match="its directory has 1,073,741,824 bytes"):
        import_graph(file)


def test_the_larger_directory_of_a_large_zip_counts_too(file):
    content = file.read_bytes()
    at = content.rfind(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 2**40, 0)
    pointer = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    file.write_bytes(content[:at] + record + pointer + content[at:])

    with pytest.raises(ForeignFile, match=r"its directory has 1,099,511,627,776 bytes"):
        import_graph(file)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "graph/../../x"])
def test_a_record_of_any_name_is_a_record_and_no_file(file, name):
    stream = stream_of(file)
    key = pickle.dumps(name, protocol=2)[2:-3].split(b"q")[0]
    assert stream.count(b"X\x01\x00\x00\x000") == 1
    stream = stream.replace(b"X\x01\x00\x00\x000", b"X" + struct.pack("<I", len(name)) + name.encode())
    assert key in stream

    with pytest.raises(ForeignFile, match="it has no record"):
        import_graph(rewritten(file, stream))


def said_otherwise(file: Path, name: bytes, packed: int, unpacked: int) -> Path:
    """The same file whose directory says another size of a record."""
    content = bytearray(file.read_bytes())
    at = content.rfind(name) - 46  # what the directory says of a record begins so far before its name
    assert content[at : at + 4] == b"PK\1\2"
    content[at + 20 : at + 28] = struct.pack("<LL", packed, unpacked)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("name", [b"graph/data/0", b"graph/data.pkl"])
def test_a_record_is_no_longer_than_the_file_and_no_longer_than_it_lies(file, name):
    content = file.read_bytes()
    with pytest.raises(ForeignFile, match="is said to be longer than the file"):
        import_graph(said_otherwise(file, name, 2**31 - 1, 2**31 - 1))
    file.write_bytes(content)
    with pytest.raises(ForeignFile, match="is compressed, from 9 bytes to 1,000,000"):
        import_graph(said_otherwise(file, name, 9, 1_000_000))


def test_a_pickle_of_more_than_numbers_need_is_not_read(file, monkeypatch):
    long = b"\x80\x02" + b"N" * archives.MOST_STREAM + b"."
    rewritten(file, long)
    monkeypatch.setattr(pickletools, "genops", lambda *_: pytest.fail("it is read"))

    with pytest.raises(ForeignFile, match="has 2,097,155 bytes, wanted 2,097,152"):
        import_graph(file)


def test_one_pickle_is_wanted_and_of_this_byte_order(file):
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("other/data.pkl", b"N.")
    with pytest.raises(ForeignFile, match=r"one data\.pkl is wanted in it, found 2"):
        import_graph(file)


@pytest.mark.parametrize(("order", "said"), [(b"big", "another byte order"), (b"x" * 99, "has 99 bytes")])
def test_the_byte_order_is_the_common_one(file, order, said):
    with zipfile.ZipFile(file) as archive:
        content = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, record in (content | {"graph/byteorder": order}).items():
            archive.writestr(name, record)

    with pytest.raises(ForeignFile, match=said):
        import_graph(file)


# The matrix: 11 by 11 numbers, each row 11 behind the one before, from the first of what is stored.
COUNT, START, SHAPE_OF, STEPS = (
    b"X\x03\x00\x00\x00cpu\x8a\x01\x79",
    b"\x8a\x01\x00",
    b"(\x8a\x01\x0b\x8a\x01\x0bt",
    b"(\x8a\x01\x0b\x8a\x01\x01t",
)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (SHAPE_OF + STEPS, SHAPE_OF + b"(\x8a\x01\x01\x8a\x01\x0bt", "does not lie in one piece"),
        (SHAPE_OF + STEPS, SHAPE_OF + b"(\x8a\x01\x00\x8a\x01\x01t", "does not lie in one piece"),
        (SHAPE_OF, b"(\x8a\x01\xff\x8a\x01\x0bt", "an array of no shape"),
        (SHAPE_OF, b"(\x88\x8a\x01\x0bt", "an array of no shape"),
        (SHAPE_OF, b"(\x8a\x01\x0bt", "an array of no shape"),
        (SHAPE_OF + STEPS, b"(" + b"K\x01" * 5 + b"t(" + b"K\x01" * 5 + b"t", "an array of no shape"),
        (START + SHAPE_OF, b"\x8a\x01\xff" + SHAPE_OF, "an array of no shape"),
        # None at all, of rows as long as this: numpy has no such array.
        (SHAPE_OF, b"(\x8a\x01\x00\x8a\x08" + b"\xff" * 7 + b"\x3ft", "an array of no shape"),
    ],
)
def test_an_array_that_lies_otherwise_is_refused(file, before, after, said):
    stream = stream_of(file)
    assert stream.count(before) == 1

    with pytest.raises(ForeignFile, match=said):
        import_graph(rewritten(file, stream.replace(before, after)))


def test_an_array_may_begin_within_what_is_stored(graph, file):
    stream = stream_of(file)
    assert stream.count(COUNT) == 1
    stream = stream.replace(COUNT, COUNT[:-1] + b"\x7a").replace(START + SHAPE_OF, b"\x8a\x01\x01" + SHAPE_OF)
    with zipfile.ZipFile(file) as archive:
        matrix = archive.read("graph/data/0")
    assert len(matrix) == 121 * 4

    assert weights(import_graph(rewritten(file, stream, **{"0": b"junk" + matrix}))) == weights(graph)


def test_an_array_is_as_large_as_what_is_stored_of_it(file):
    (record,) = [each for each in ("0", "1", "2") if Archive(file).size(each) == 11 * 11 * 4]
    with pytest.raises(ForeignFile, match="has not the size of 121 numbers"):
        import_graph(rewritten(file, **{record: b"\0" * 400}))


def test_a_matrix_that_claims_to_be_large_is_refused(file):
    stream = stream_of(file)
    shape = b"(\x8a\x01\x0b\x8a\x01\x0bt"
    assert stream.count(shape) == 1
    large = b"(\x8a\x05\x00\x00\x00\x00\x01\x8a\x05\x00\x00\x00\x00\x01t"

    with pytest.raises(ForeignFile, match="larger than what is stored of it"):
        import_graph(rewritten(file, stream.replace(shape, large)))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"n_layers", b"no_layer", "cfg should be"),
        (b"active_features", b"active_creature", "active_features should be"),
        (b"logit_probabilities", b"logit_probabilitieZ", "logit_probabilities should be"),
        (b"adjacency_matrix", b"adjacency_matriX", "adjacency_matrix should be an array of 11 by 11"),
        (b"FloatStorage", b"LongStorage", "has not the size"),
    ],
)
def test_what_is_missing_is_named(file, before, after, said):
    stream = stream_of(file)
    assert before in stream

    with pytest.raises(ForeignFile, match=said):
        import_graph(rewritten(file, stream.replace(before, after)))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"selected_features": np.array([0, 1, 3])}, "selected_features should be rows of 3 active"),
        ({"selected_features": np.array([-1, 0, 1])}, "selected_features should be rows of 3 active"),
        ({"selected_features": np.zeros(3, dtype="<f4")}, "selected_features should be an array of whole numbers"),
        ({"activation_values": np.zeros(2, dtype="<f4")}, "as many activation_values"),
        ({"activation_values": np.zeros(3, dtype="<i8")}, "activation_values should be an array of numbers"),
        ({"active_features": np.zeros((3, 2), dtype="<i8")}, r"found shapes \(3, 2\)"),
        ({"active_features": np.zeros(9, dtype="<i8")}, "active_features should be an array of 2 axes"),
        ({"logit_probabilities": np.zeros(3, dtype="<f4")}, "as many as logit_probabilities"),
        ({"logit_targets": []}, "as many as logit_probabilities"),
        ({"logit_targets": [("x", 1), ("y", 2)]}, "logit_targets should be a list of texts and ids"),
        ({"logit_targets": "x"}, "logit_targets should be a list of texts and ids"),
        ({"input_tokens": np.zeros(2**16 + 1, dtype="<i8")}, "input_tokens should be"),
        ({"input_tokens": np.array([5, -6])}, "has feature -6, out of range"),
        ({"selected_features": np.array([0, 1, 1])}, "there once, found feature 90 of layer 1 at 0"),
        ({"active_features": np.array([[0, 1, 1], [2, 1, 7], [1, 0, 9]])}, "of 2 layers .* 7 of layer 2 at 1"),
        ({"active_features": np.array([[0, 1, 1], [1, 1, 7], [1, 2, 9]])}, "and 2 tokens, .* 9 of layer 1 at 2"),
        ({"active_features": np.array([[0, 1, 1], [1, 1, 7], [1, 0, -2]])}, "found feature -2 of layer 1 at 0"),
        ({"activation_values": np.array([1, np.inf, 0], dtype="<f4")}, "activation_values should be finite"),
        ({"logit_probabilities": np.array([np.nan, 0], dtype="<f4")}, "logit_probabilities should be finite"),
        ({"adjacency_matrix": np.zeros((11, 10), dtype="<f4")}, "should be an array of 11 by 11"),
        ({"adjacency_matrix": np.ones((11, 11), dtype="<f4")}, "a layer that is not above"),
        ({"adjacency_matrix": np.zeros((11, 11), dtype="<i8")}, "should be an array of 11 by 11"),
        ({"cfg": None}, "cfg should be a configuration"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(graph, tmp_path, monkeypatch, parts, said):
    write = writing._write
    monkeypatch.setattr(writing, "_write", lambda path, record: write(path, {**record, **parts}))
    export(graph, tmp_path / "x.pt")

    with pytest.raises(ForeignFile, match=said):
        import_graph(tmp_path / "x.pt")


@pytest.mark.parametrize("layers", [0, -1, 10_000, True, "2"])
def test_a_model_has_layers(graph, tmp_path, monkeypatch, layers):
    make = writing._config
    changed = {"n_layers": layers}
    monkeypatch.setattr(writing, "_config", lambda *a: replace(make(*a), state={**(make(*a).state or {}), **changed}))
    export(graph, tmp_path / "x.pt")

    with pytest.raises(ForeignFile, match="cfg should be a configuration with n_layers"):
        import_graph(tmp_path / "x.pt")


def test_a_graph_of_more_nodes_than_a_matrix_has_room_for_is_not_read(file, monkeypatch):
    monkeypatch.setattr(reading, "MOST_NODES", 10)

    with pytest.raises(ForeignFile, match="has 11 nodes, 10 are the most"):
        import_graph(file)


def test_a_target_that_is_no_token_is_written_beyond_the_vocabulary(tmp_path):
    plain = graph_of([(0, 1, 1), (1, 2, 1), (1, 3, 2), (0, 4, 1)], "token feature logit logit logit")
    graph = replace(plain, nodes=plain.nodes.with_columns(feature=np.array([7, 1, -1, 20, -1]), layer=LAYERS))
    found = import_graph(export(graph, tmp_path / "x.pt"))

    assert found.nodes.feature[found.nodes.where("logit")].tolist() == [21, 20, 23]
    assert found.provenance["imported"]["vocab_size"] == 21


LAYERS = np.array([-1, 0, 1, 1, 1], dtype=np.int32)


def test_what_a_target_counts_in_the_goal_is_written_and_not_how_likely_it_is(tmp_path):
    plain = graph_of([(0, 1, 1), (1, 2, 1), (1, 3, 2)], "token feature logit logit", goal=[0.0, 0.0, 0.75, 0.25])
    likely = np.array([1, 1, 0.5, 0.5])
    layer = np.array([-1, 0, 1, 1], dtype=np.int32)
    graph = replace(plain, nodes=plain.nodes.with_columns(activation=likely, layer=layer))

    assert import_graph(export(graph, tmp_path / "x.pt")).goal[-2:].tolist() == [0.75, 0.25]


def test_what_stands_outside_of_the_model_has_no_room(tmp_path):
    plain = graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit")
    layers = [{"layer": np.array([-1, layer, 2])} for layer in (-1, 2, 3)]  # the model has two
    for column in ({"position": np.array([0, -1, 0])}, *layers):
        with pytest.raises(BadGraph, match="or one where it has none"):
            export(replace(plain, nodes=plain.nodes.with_columns(**column)), tmp_path / "x.pt")
    twice = graph_of([(0, 1, 1), (1, 2, 1)], "token error logit")
    twice = replace(twice, nodes=twice.nodes.with_columns(feature=np.array([7, OF_ATTENTION, 2])))
    with pytest.raises(BadGraph, match="error of attention"):
        export(twice, tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02}q\x00.", b"PK\5\6" + b"\0" * 18, b"junk" * 1000])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)

    with pytest.raises(ForeignFile, match=r"x\.pt is no file of PyTorch's"):
        import_graph(tmp_path / "x.pt")


def test_the_matrix_is_read_some_rows_at_a_time(graph, file, monkeypatch):
    monkeypatch.setattr(archives, "BLOCK", 50)  # less than two rows of it

    assert weights(import_graph(file)) == weights(graph)


@given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 10**4), strategies.integers(0, 255)), min_size=1, max_size=8
    )
)
@settings(max_examples=60)
def test_whatever_bytes_are_changed_it_is_refused_or_a_graph(tmp_path_factory, changes):
    content = bytearray(WHOLE)
    for at, value in changes:
        content[at % len(content)] = value
    hold(tmp_path_factory, bytes(content))


@given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 10**4), strategies.integers(0, 255)), min_size=1, max_size=4
    )
)
@settings(max_examples=120)
def test_whatever_instructions_are_changed_it_is_refused_or_a_graph(tmp_path_factory, changes):
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        records = {each.filename: archive.read(each) for each in archive.infolist()}
    stream = bytearray(records["graph/data.pkl"])
    places = [at for _, _, at in pickletools.genops(bytes(stream))]
    for at, value in changes:
        stream[places[at % len(places)] if value % 2 else at % len(stream)] = value
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, bytes(stream) if name == "graph/data.pkl" else record)
    hold(tmp_path_factory, made.getvalue())


def hold(factory: pytest.TempPathFactory, content: bytes) -> None:
    """The file is refused by name, or it is a graph that can be stored."""
    folder = factory.mktemp("fuzz")
    (folder / "x.pt").write_bytes(content)
    try:
        found = import_graph(folder / "x.pt")
    except ForeignFile as error:
        assert "x.pt" in str(error)
        return
    Store(folder / "store").save(found)


def _whole() -> bytes:
    """A file of few nodes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        graph = import_graph(written(Path(folder) / "x.json", page_graph()))
        return export(graph, Path(folder) / "x.pt").read_bytes()


WHOLE = _whole()


# -- Beside circuit-tracer itself --------------------------------------------------------------------------------------

BOTH_WAYS = """
import sys, torch
from circuit_tracer.graph import Graph, compute_graph_scores, prune_graph
graph = Graph.from_pt(sys.argv[1])
assert [(each.token_str, each.vocab_idx) for each in graph.logit_targets] == [(" x", 11), ("y", 12)]
assert graph.cfg.n_layers == 2 and graph.active_features.tolist() == [[0, 1, 1], [1, 0, 90], [1, 1, 7]]
assert graph.selected_features.tolist() == [0, 1, 2] and graph.input_tokens.tolist() == [5, 6]
graph.active_features = torch.cat([torch.tensor([[0, 0, 3]]), graph.active_features])  # one that was not traced
graph.activation_values = torch.cat([torch.tensor([9.0]), graph.activation_values])
graph.selected_features = graph.selected_features + 1
graph.to_pt(sys.argv[2])
print(*compute_graph_scores(graph), int(prune_graph(graph, 0.8, 0.98).node_mask.sum()))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not is_installed(PEER), reason="circuit-tracer is not there: benchmarks/peers/circuit_tracer/install"
)
def test_circuit_tracer_loads_ours_and_we_load_its(graph, file, tmp_path):
    command = [environment(PEER) / "bin/python", "-W", "ignore", "-c", BOTH_WAYS, file, tmp_path / "theirs.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    replacement, completeness, _ = map(float, done.stdout.split())

    found = import_graph(tmp_path / "theirs.pt")

    assert weights(found) == weights(graph)
    assert found.provenance["active"] == 4 and found.provenance["traced"] == 3
    assert scores(found).replacement == pytest.approx(replacement, rel=1e-6)
    assert scores(found).completeness == pytest.approx(completeness, rel=1e-6)
