"""`circuits heads` on the shipped model."""

import json
from pathlib import Path

import pytest

from circuits.__main__ import main

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
