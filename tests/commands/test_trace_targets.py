"""`circuits trace` from inside: an error, a span, a share of influence, as a person would type them."""

from pathlib import Path

import pytest

from circuits.__main__ import main
from graphs.store import Store

SHOWCASE = "the capital of the state containing dallas is"


def test_an_error_and_a_span_are_traced_drawn_and_the_span_is_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["trace", SHOWCASE, "--target", "L1/error@last", "--span=-2:", "--min-influence", "0.01"]
    assert main([*words, "--store", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for part in ("error L1 @is: +", "after containing", "after dallas", "the span only", "none carries more"):
        assert part in said
    (entry,) = Store(tmp_path).list()
    kept = Store(tmp_path).assay(entry.id)
    assert kept is not None and "the foremost of 2 targets" in kept.registration["metric"]
    assert main(["show", entry.id, "--store", str(tmp_path)]) == 0
    assert "of the others none carries more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--target", "L2/544"], "a feature is written L2/544@last"),
        (["--target", "L2/error@99"], "the prompt positions 0 to"),
        (["--span", "4-7"], "a span is FIRST:STOP"),
        (["--min-influence", "2"], "above 0 and below 1"),
    ],
)
def test_a_target_that_makes_no_sense_gets_one_clear_line(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["trace", SHOWCASE, *words, "--store", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert complaint in said and "Traceback" not in said


def test_so_many_features_are_traced_unless_another_number_or_share_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("circuits.commands.trace.MOST", 7)
    monkeypatch.setattr("circuits.keeping.keep_pictures", lambda *_: ([], []))

    def traced(*words: str) -> int:
        store = Store(tmp_path / "-".join(("store", *words)))
        assert main(["trace", SHOWCASE, *words, "--store", str(store.folder), "--no-assay", "--quiet"]) == 0
        (entry,) = store.list()
        return store.record(entry.id)["provenance"]["traced"]

    assert traced() == 7
    assert traced("--max-features", "9") == 9
    assert traced("--min-influence", "0.0001") > 9
