"""The command line: what goes wrong becomes one sentence and the right exit code."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from circuits import __main__ as shell
from circuits.commands import COMMANDS
from circuits.errors import BadPrompt
from graphs.errors import CannotWrite


@pytest.fixture
def failing(monkeypatch):
    """A command `list` that raises what it is told to."""

    def raising(error):
        def run(arguments):
            raise error

        command = SimpleNamespace(add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(shell, "import_module", lambda name: command)
        monkeypatch.delenv("CIRCUITS_DEBUG", raising=False)
        return shell.main(["list"])

    return raising


@pytest.mark.parametrize("error", [BadPrompt("the prompt is empty"), CannotWrite("no space")])
def test_bad_input_is_one_sentence_and_code_2(failing, capsys, error):
    assert failing(error) == 2
    assert capsys.readouterr().err == f"circuits: {error}\n"


def test_a_file_that_cannot_be_read_is_named(failing, capsys):
    assert failing(PermissionError(13, "Permission denied", "/a/file")) == 2
    assert capsys.readouterr().err == "circuits: /a/file: Permission denied\n"


def test_an_interruption_is_code_130(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_order_to_stop_is_code_143_and_the_handler_goes_when_the_command_does(monkeypatch, capsys):
    def stop(arguments):
        signal.raise_signal(signal.SIGTERM)

    command = SimpleNamespace(add_arguments=lambda parser: None, run=stop)
    monkeypatch.setattr(shell, "import_module", lambda name: command)
    before = signal.getsignal(signal.SIGTERM)

    assert shell.main(["list"]) == 143
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_fault_of_ours_says_so_where_and_how_to_see_more(failing, capsys, monkeypatch):
    assert failing(KeyError("lost")) == 1
    error = capsys.readouterr().err
    assert "KeyError: 'lost'" in error and "test_main.py, line" in error and "CIRCUITS_DEBUG=1" in error
    assert "Traceback" not in error

    monkeypatch.setenv("CIRCUITS_DEBUG", "1")
    shell.main(["list"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["trase"], ["list", "--nonsense"], ["draw"]])
def test_a_command_line_that_makes_no_sense_is_code_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        shell.main(words)

    assert stopped.value.code == 2
    assert "usage: circuits" in capsys.readouterr().err


def test_a_command_that_is_not_there_is_told_with_the_one_that_may_be_meant(capsys):
    with pytest.raises(SystemExit) as left:
        shell.main(["tarce", "a prompt"])

    assert left.value.code == 2
    assert "there is no command 'tarce'" in (said := capsys.readouterr().err) and "Did you mean trace?" in said


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        shell.main(["--help"])

    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert set(COMMANDS) <= {line.split()[0] for line in out.splitlines() if line.startswith("    ") and line.strip()}


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    reads, writes = os.pipe()
    os.close(reads)  # like `circuits list | true`
    done = subprocess.run(
        [sys.executable, "-m", "circuits", "list", "--store", str(tmp_path)],
        stdout=writes,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writes)

    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("where", "complaint"),
    [(">/dev/full", b"No space left on device"), (">&-", b"Bad file descriptor")],
)
def test_output_that_goes_nowhere_is_code_2(tmp_path, where, complaint):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no full device here")
    line = f"{shlex.join([sys.executable, '-m', 'circuits', 'list', '--store', str(tmp_path)])} {where}"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, check=False)

    assert done.returncode == 2
    assert complaint in done.stderr and b"Traceback" not in done.stderr and done.stderr.count(b"\n") == 1


def test_a_closed_error_stream_changes_nothing(tmp_path):
    line = f"{shlex.join([sys.executable, '-m', 'circuits', 'show', 'nothing', '--store', str(tmp_path)])} 2>&-"
    done = subprocess.run(line, shell=True, stdout=subprocess.PIPE, check=False)

    assert (done.returncode, done.stdout) == (2, b"")


def test_letters_that_a_terminal_cannot_show_become_question_marks(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    command = SimpleNamespace(add_arguments=lambda parser: None, run=lambda arguments: print("texas → say") or 0)
    monkeypatch.setattr(shell, "import_module", lambda name: command)

    shell.main(["list"])

    assert out.buffer.getvalue() == b"texas ? say\n"
