"""`circuits heads` on the shipped model."""

import gzip
import json
import re
from pathlib import Path

import pytest

from circuits.__main__ import main
from circuits.serving.pages import Pages
from graphs.store import Store

SHOWCASE = "the capital of the state containing dallas is"


def test_edges_are_split_over_heads_in_words_as_json_and_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store = ["--store", str(tmp_path / "store")]
    assert main(["trace", SHOWCASE, "--no-assay", "--quiet", *store]) == 0
    capsys.readouterr()

    assert main(["heads", "the-capital", *store]) == 0
    said = capsys.readouterr().out
    assert main(["heads", "the-capital", "--json", *store]) == 0
    records = json.loads(capsys.readouterr().out)

    line = said.splitlines()[1]  # the strongest that any head carried 5% of
    strongest = next(
        each for each in records if each["heads"] and abs(each["heads"][0]["load"]) >= 0.05 * abs(each["weight"])
    )
    named = "a{layer}.h{head}".format(**strongest["heads"][0])
    assert named in line and f"{strongest['heads'][0]['load'] / strongest['weight']:.0%}" in line
    (folder,) = (tmp_path / "store").glob("the-capital*")
    edge = f'"{strongest["source"]}-{strongest["target"]}":[[{strongest["heads"][0]["layer"]},'
    assert edge in (folder / "graph.html").read_text()


def test_a_trace_keeps_which_heads_carried_its_edges_and_its_page_and_later_ones_show_them(tmp_path: Path):
    store = ["--store", str(tmp_path / "store")]
    page = tmp_path / "x.html"
    assert main(["trace", SHOWCASE, "--no-assay", "--quiet", "-o", str(page), *store]) == 0
    (folder,) = (tmp_path / "store").glob("the-capital*")
    kept = Store(tmp_path / "store").heads(folder)
    assert kept is not None and kept.split == kept.of > len(kept.source) / 2 > 0
    told = re.search(r'"heads":(\{.+?\]\]\}),"split":\{"edges":\d+,"of":\d+\}', page.read_text())
    assert told is not None and len(json.loads(told[1])) == len(kept.source)

    assert told[0] in (folder / "graph.html").read_text()
    assert main(["draw", "the-capital", "-o", str(tmp_path / "again.html"), "--quiet", *store]) == 0
    assert told[0] in (tmp_path / "again.html").read_text()
    served = gzip.decompress(Pages(Store(tmp_path / "store")).page(folder.name)).decode()
    assert told[0] in served
