"""The benchmark that wants a GPU, run small on the CPU; and what the command refuses."""

import pytest
import torch

from benchmarks import speed
from benchmarks.peers.cases import Case


def test_one_graph_on_a_device_is_measured_against_its_own_floor():
    small = Case("gemma2", layers=2, width=16, heads=2, head=6, units=32, tokens=8, active=4)

    found = speed.measure_gpu(small, rows=10, device="cpu", repeats=1)

    assert (found["rows"], found["device"]) == (10, "cpu")
    assert found["floor"]["rows"] > 0
    assert found["over floor"] == pytest.approx(found["rows seconds"] / found["floor"]["seconds"])
    assert "gemma2 2L d16 T8" in speed.report({"gpu": {**found, "machine": speed.machine(), "took": 60.0}})


def test_without_a_gpu_or_with_an_unknown_part_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert speed.main(["--gpu"]) == 2
    assert "CUDA" in capsys.readouterr().err
    assert speed.main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
