"""`circuits trace` with attention replaced, as a person would type it: traced, tested, shown, steered."""

from pathlib import Path

import pytest

from circuits.__main__ import main
from graphs.store import Store
from tests.circuits.test_attention_loading import write_own_heads
from tests.circuits.worlds import folder_of, model_of

PROMPT = "a red fox runs here"


def test_a_prompt_is_traced_through_features_of_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = write_own_heads(model_of("llama", "float32"), tmp_path / "own")
    with_ = ["-m", str(folder_of("llama")), "-t", f"neurons+{own}"]
    kept = ["--store", str(tmp_path / "store")]

    assert main(["trace", PROMPT, *with_, *kept, "--no-assay", "--target", "L2/attn/6@last"]) == 0
    assert "L2/attn/6 @here: +" in capsys.readouterr().out
    (entry,) = Store(tmp_path / "store").list()
    assert (Store(tmp_path / "store").load(entry.id).nodes.kind == "attention").any()
    assert Store(tmp_path / "store").heads(entry.id) is None  # no edge passes a head there
    assert main(["show", entry.id, *kept]) == 0
    assert f"neurons+{own}" in capsys.readouterr().out
    assert main(["check", entry.id, *kept, "--quick", "--controls", "20"]) == 0  # the set is found by its name again
    assert "each edge" not in capsys.readouterr().out
    assert main(["steer", PROMPT, *with_, "--set", "L2/attn/6@last=-3x"]) == 0
    assert "changed L2/attn/6@5 × -3" in capsys.readouterr().out


def test_what_is_no_feature_of_attention_gets_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = write_own_heads(model_of("llama", "float32"), tmp_path / "own")
    model, kept = ["-m", str(folder_of("llama"))], ["--store", str(tmp_path / "store")]

    assert main(["trace", PROMPT, *model, "-t", str(own), *kept]) == 2
    assert "stands in for attention alone" in capsys.readouterr().err
    assert main(["trace", PROMPT, *model, "-t", "neurons", *kept, "--target", "L2/attn/6@last"]) == 2
    assert "that unit is not active there" in capsys.readouterr().err
    assert main(["trace", PROMPT, *model, "-t", f"neurons+{own}", *kept, "--target", "L2/attn/error@last"]) == 2
    assert "has no inputs of its own" in capsys.readouterr().err
