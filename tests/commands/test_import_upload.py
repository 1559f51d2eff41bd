"""`circuits import` and `circuits upload`, the latter to a server of our own with Neuronpedia's three addresses."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from circuits import uploading
from circuits.__main__ import main
from graphs import Store, export
from tests.graphs.foreign import page_graph, written
from tests.worlds import graph_of

KEY = "s3cret-key"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEURONPEDIA_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "*")
    written(tmp_path / "x.json", page_graph())
    return tmp_path


def test_a_file_becomes_a_graph_of_the_store(folder, capsys):
    export(graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit"), folder / "y.pt")
    assert main(["import", "x.json", "y.pt"]) == 0
    said = capsys.readouterr().out
    assert "imported 8 nodes and 9 edges from x.json" in said
    assert "pruned before, to 80% of the influence" in said
    assert len(Store("circuits-store").list()) == 2

    for command in (["show", "a-b"], ["draw", "a-b", "-o", "z.json"], ["draw", "a-b", "-o", "z.html"]):
        assert main(command) == 0
    capsys.readouterr()
    assert main(["import", "x.json", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["nodes"], told["edges"], told["file"]) == (8, 9, "x.json")
    assert told["id"] in [entry.id for entry in Store("circuits-store").list()]


def test_a_graph_that_was_pruned_before_is_not_called_whole(folder, capsys):
    other = page_graph()
    del other["metadata"]["node_threshold"]
    other["metadata"]["prompt_tokens"] = ["c", " b"]
    export(graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit", provenance={"prompt": "pt"}), folder / "y.pt")
    assert main(["import", "x.json", str(written(folder / "other.json", other)), "y.pt"]) == 0

    said = []
    for name in ("a-b", "c-b", "pt"):
        capsys.readouterr()
        assert main(["show", name]) == 0
        said.append(capsys.readouterr().out)
    assert "imported, pruned before to 80% of the influence, of which this is all there is: 8 nodes, 9 edges" in said[0]
    assert "imported, and whether it was pruned before is not known: 8 nodes, 9 edges" in said[1]
    assert "whole graph: " in said[2] and not any("whole graph" in each for each in said[:2])


def test_of_several_files_the_good_ones_are_imported_and_the_others_named(folder, capsys):
    (folder / "no.json").write_text("{}")
    export(graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit"), folder / "y.pt")

    assert main(["import", "no.json", "x.json", "gone.json", "y.pt"]) == 2

    told = capsys.readouterr()
    assert len(Store("circuits-store").list()) == 2
    assert told.err.count("not imported") == 2 and "no.json" in told.err and "gone.json" in told.err


def test_saved_groups_are_kept_beside_the_graph(folder, capsys):
    written(folder / "saved.json", {"pinnedIds": [], "supernodes": [["seven", "1_7_1"]]})
    assert main(["import", "x.json", "--subgraph", "saved.json"]) == 0

    (entry,) = Store("circuits-store").list()
    assert json.loads((folder / entry.folder / "groups.json").read_text()) == {"seven": ["L1/7@1"]}
    assert f"circuits draw {entry.id} --groups circuits-store/{entry.id}/groups.json" in capsys.readouterr().out
    assert main(["import", "x.json", "x.json", "--subgraph", "saved.json"]) == 2


def test_groups_in_the_file_itself_are_kept_too_but_for_nodes_that_it_has_not(folder, capsys):
    record = page_graph()
    record["qParams"]["supernodes"] = [["seven", "1_7_1", "gone"], ["nobody", "gone"], []]
    written(folder / "y.json", record)
    assert main(["import", "y.json"]) == 0

    (entry,) = Store("circuits-store").list()
    assert json.loads((folder / entry.folder / "groups.json").read_text()) == {"seven": ["L1/7@1"]}
    assert f"1 group: circuits draw {entry.id} --groups" in capsys.readouterr().out
    record["qParams"]["supernodes"] = ["seven"]
    written(folder / "y.json", record)
    assert main(["import", "y.json"]) == 2
    assert "supernodes[0] should be a list" in capsys.readouterr().err


def test_tokens_of_a_pt_file_are_told_in_the_models_words(folder):
    graph = graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit", token_ids=(5,))
    export(graph, folder / "y.pt")
    assert main(["import", "y.pt", "-m", "world"]) == 0

    store = Store("circuits-store")
    (entry,) = store.list()
    found = store.load(entry.id)
    assert found.tokens != ("#5",) and found.nodes.label[0] == found.tokens[0]

    export(graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit", token_ids=(10**6,)), folder / "y.pt")
    assert main(["import", "y.pt", "-m", "world"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["import", "nowhere.json"],
        ["import", "x.txt"],
        ["import", "broken.json"],
        ["import", "x.json", "--subgraph", "broken.json"],
        ["import", "x.json", "--subgraph", "x.pt"],
    ],
)
def test_what_is_no_graph_is_refused_without_a_traceback(folder, capsys, words):
    (folder / "broken.json").write_text('{"metadata": {}}')

    assert main(words) == 2

    said = capsys.readouterr().err
    assert said.startswith("circuits: ") and said.count("\n") == 1


class Fake(BaseHTTPRequestHandler):
    """Neuronpedia's three addresses, that where files are put, and what they were asked."""

    asked: ClassVar[list] = []
    answers: ClassVar[dict] = {}

    def do_POST(self):
        self._answer()

    do_PUT = do_POST

    def _answer(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.split("?")[0]
        self.asked.append((self.command, path, self.headers, content))
        here = f"http://{self.headers['Host']}"
        usual = {
            "/api/graph/signed-put": (
                200,
                {"url": f"{here}/put/x?signature=abc", "key": "k", "putRequestId": "request 7"},
            ),
            "/put/x": (200, {}),
            "/api/graph/save-to-db": (200, {"url": "https://there/toy-2l/graph?slug=a-b"}),
            "/api/graph/subgraph/save": (200, {}),
        }
        code, said = (usual | self.answers).get(path, (404, {}))
        self.send_response(code)
        if isinstance(said, str) and code in (301, 302, 307):
            self.send_header("Location", said)
        self.end_headers()
        self.wfile.write(said.encode() if isinstance(said, str) else json.dumps(said).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Fake, "asked", [])
    monkeypatch.setattr(Fake, "answers", {})
    with HTTPServer(("127.0.0.1", 0), Fake) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


@pytest.fixture
def stored(folder, capsys):
    assert main(["import", "x.json", "-q"]) == 0
    capsys.readouterr()
    return "a-b"


def test_a_graph_is_uploaded_in_three_steps(stored, server, folder, capsys):
    assert main(["upload", stored, "--server", server, "--scan", "gemma-2-2b", "--source-set", "set-16k"]) == 0

    out = capsys.readouterr()
    assert "uploaded 8 nodes and 9 links: https://there/toy-2l/graph?slug=a-b" in out.out
    assert KEY not in out.out + out.err
    (_, first, begun, about), (how, second, put, content), (_, third, ended, done) = Fake.asked
    assert (first, how, second, third) == ("/api/graph/signed-put", "PUT", "/put/x", "/api/graph/save-to-db")
    assert json.loads(about) == {
        "filename": "a-b.json",
        "contentLength": len(content),
        "contentType": "application/json",
    }
    assert json.loads(done) == {"putRequestId": "request 7"}
    assert begun["x-api-key"] == ended["x-api-key"] == KEY
    assert "x-api-key" not in put  # the place where files are put is another's
    record = json.loads(content)
    assert record["metadata"]["scan"] == "gemma-2-2b"
    assert record["metadata"]["feature_details"] == {"neuronpedia_source_set": "set-16k"}
    assert len(record["nodes"]) == 8 and "circuit_assay" not in record


def test_groups_are_saved_with_it(stored, server, folder):
    written(folder / "groups.json", {"seven": ["L1/7@1"]})
    assert main(["upload", stored, "--server", server, "--groups", "groups.json", "--json"]) == 0

    assert [path for _, path, _, _ in Fake.asked][-1] == "/api/graph/subgraph/save"
    saved = json.loads(Fake.asked[-1][3])
    assert (saved["modelId"], saved["slug"]) == ("toy-2l", "a-b")
    assert saved["supernodes"] == [["seven", "1_7_1"]] == json.loads(Fake.asked[1][3])["qParams"]["supernodes"]
    assert saved["pruningThreshold"] is None and saved["densityThreshold"] is None


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            {"/api/graph/signed-put": (401, {"message": f"no such key {KEY}"})},
            "says no: 401 no such key …. Is the key the one of your account there?",
        ),
        (
            {"/api/graph/signed-put": (429, {"error": "Too many put requests"})},
            "429 Too many put requests. Try again later: the graph stays",
        ),
        ({"/api/graph/signed-put": (200, "<html>")}, "without url and putRequestId: is it a Neuronpedia server?"),
        ({"/api/graph/signed-put": (200, {"url": "http://elsewhere/x", "putRequestId": 1})}, "https:// is wanted"),
        ({"/api/graph/signed-put": (200, {"url": "file:///etc/passwd", "putRequestId": 1})}, "https:// is wanted"),
        ({"/api/graph/signed-put": (307, "http://127.0.0.1:1/steal")}, "says no: 307"),
        ({"/put/x": (403, "<Error>expired</Error>")}, "/put/x says no: 403 Forbidden\n"),
        ({"/api/graph/save-to-db": (400, {"error": "Model gone"})}, "save-to-db says no: 400 Model gone"),
        ({"/api/graph/save-to-db": (200, {"url": None})}, "answered without url"),
    ],
)
def test_what_a_server_says_against_it_is_told_in_a_line(stored, server, capsys, monkeypatch, answers, said):
    monkeypatch.setattr(Fake, "answers", answers)

    assert main(["upload", stored, "--server", server]) == 2

    out = capsys.readouterr()
    assert said in out.err and out.err.count("\n") == 1
    assert KEY not in out.out + out.err
    assert "signature" not in out.err


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        ([], "", "set NEURONPEDIA_API_KEY"),
        ([], "two\nlines", "without spaces"),
        (["--server", "http://www.neuronpedia.org"], KEY, "begins with https:// is wanted"),
        (["--server", "https://no.such.host.invalid"], KEY, "The graph stays in the store: upload it again"),
        (["--server", "ftp://127.0.0.1"], KEY, "begins with https:// is wanted"),
        (["--server", "http://[broken"], KEY, "begins with https:// is wanted"),
        (
            ["--server", "http://127.0.0.1:1"],
            KEY,
            "Connection refused. Is this machine online?",
        ),
        (["--slug", "a/b"], KEY, "a slug may hold letters, digits"),
        (["--scan", "../x"], KEY, "a scan may hold letters, digits"),
        (["--groups", "x.json"], KEY, "groups"),
    ],
)
def test_what_cannot_be_uploaded_goes_nowhere(stored, capsys, monkeypatch, words, key, said):
    monkeypatch.setenv("NEURONPEDIA_API_KEY", key)
    address = [] if "--server" in words else ["--server", "http://127.0.0.1:1"]

    assert main(["upload", stored, *words, *address]) == 2

    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not key or key not in err


def test_a_graph_is_of_a_size_that_is_taken_and_of_more_than_one_layer(folder, server, capsys, monkeypatch):
    flat = page_graph()
    flat["nodes"] = [node for node in flat["nodes"] if node["layer"] in ("0", "E", "3")]
    known = {node["node_id"] for node in flat["nodes"]}
    flat["links"] = [link for link in flat["links"] if {link["source"], link["target"]} <= known]
    assert main(["import", str(written(folder / "flat.json", flat)), "--store", "flat"]) == 0
    assert main(["upload", "a-b", "--store", "flat", "--server", server]) == 2
    assert "lies in layer 0, and the page there fails on such a graph. Prune less" in capsys.readouterr().err
    assert main(["draw", "a-b", "--store", "flat", "-o", "flat.json"]) == 0  # the layout itself has nothing against it
    assert main(["import", "flat.json", "--store", "again"]) == 0

    assert main(["import", "x.json"]) == 0
    monkeypatch.setattr(uploading, "LEAST", 10_000)
    assert main(["upload", "a-b", "--server", server]) == 0
    assert len(Fake.asked[1][3]) == 10_000 and json.loads(Fake.asked[1][3])["nodes"]
    monkeypatch.setattr(uploading, "MOST", 2000)
    assert main(["upload", "a-b", "--server", server]) == 2
    assert "prune it first" in capsys.readouterr().err
