"""What README shows is what happens."""

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_of_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)

    exec(code, {})

    assert (tmp_path / "dallas.svg").stat().st_size > 1000
    assert "supported" in capsys.readouterr().out


def test_the_python_of_the_docs_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)

    assert {"dallas.svg", "story.svg", "dallas.json"} <= {each.name for each in tmp_path.iterdir()}
    clean, without, _ = names["logits"][:, -1, names["model"].tokenize("austin")[-1]].tolist()
    assert without < clean


def test_every_file_it_names_is_there():
    named = re.findall(r"\]\(([^)#:]+)\)", README)
    assert named
    for path in named:
        assert (Path(__file__).parents[1] / path).exists(), path
