"""Where results go is looked at before the work, and nothing is made there until there is a result."""

from __future__ import annotations

import os

import pytest

from circuits.__main__ import main
from circuits.keeping import check_output, check_writable
from graphs.errors import CannotWrite


def test_what_can_be_made_is_not_made_yet(tmp_path):
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "deep" / "store")
    check_output(tmp_path / "new" / "x.svg")

    assert os.listdir(tmp_path) == []


def test_what_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.svg").mkdir()

    for check, path, says in (
        (check_writable, tmp_path / "file", "file is no folder"),
        (check_writable, tmp_path / "file" / "store", "cannot be made: .*file is no folder"),
        (check_writable, tmp_path / ("x" * 300), "cannot be made: File name too long"),
        (check_output, tmp_path / "file" / "x.svg", "file is no folder"),
        (check_output, tmp_path / "folder.svg", "is a folder: name a file in it"),
    ):
        with pytest.raises(CannotWrite, match=says):
            check(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CannotWrite, match="nothing can be written into"):
        check_writable(tmp_path / "new")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-m", "no-such-model", "--store", "new/deep/store", "-o", "other/x.svg"], "no-such-model"),
        (["-m", "no-such-model", "-o", "taken.svg"], "taken.svg is a folder"),
        (["-m", "no-such-model", "--store", "file"], "file is no folder"),
    ],
)
def test_bad_input_to_trace_leaves_no_folder(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.svg").mkdir()
    (tmp_path / "file").touch()

    assert main(["trace", "dallas is", *words]) == 2
    assert says in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.svg"]
