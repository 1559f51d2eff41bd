"""Component circuits against EAP-IG's, wherever its environment is installed."""

import pytest

from benchmarks.components import METRIC_NAMES, SHAPES, WAYS, compare, report
from benchmarks.peers.component_jobs import INSTALL, PEER, Peer, make_work
from benchmarks.peers.processes import is_installed


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(PEER), reason=INSTALL)
def test_scores_and_the_circuits_chosen_by_them_are_the_peers():
    work = make_work(SHAPES[0], 4, "float64")
    with Peer(work.folder) as peer:
        for way in WAYS:
            found = compare(work, peer, SHAPES[0].name, "float64", METRIC_NAMES[0], way)

            assert found.holds, found
            assert found.edges <= 1e-6  # it keeps scores in float32


def test_an_aim_that_is_missed_is_told():
    spent = {"cpu": 2.0, "wall": 2.0, "peak": 10}
    row = {"case": "small", "method": "eap", "ours": spent, "peer": spent, "wall ratio": 1.0, "aim": 5.0, "room": 0.25}
    rows = [{**row, "ratio": 6.0, "memory": memory} for memory in (0.2, 0.3)]
    machine = {"cpu": "a processor", "cores": 2, "load": 1.0, "torch": "2"}

    told = report({"edges": {"rows": rows, "machine": machine}})

    lines = [line for line in told.splitlines() if line.startswith("| small")]
    assert [line.split("|")[-2].strip() for line in lines] == ["met", "missed"]
