"""The component graph: its edges, their names, and circuits chosen from them."""

import numpy as np
import pytest

from circuits.components.components import Components, connected, strongest
from circuits.errors import BadOption


@pytest.mark.parametrize(
    ("layers", "heads", "parallel", "edges"),
    [(12, 12, False, 32_491), (24, 14, False, 179_749), (26, 8, False, 74_218), (32, 32, False, 1_592_881)],
)
def test_published_models_have_as_many_edges_as_published(layers, heads, parallel, edges):
    assert Components(layers, heads, parallel).edges.sum() == edges


def test_in_a_parallel_block_the_mlp_does_not_read_its_heads():
    serial, parallel = Components(2, 3, False), Components(2, 3, True)

    assert serial.edges.sum() - parallel.edges.sum() == 2 * 3
    assert serial.edge("a1.h2->m1") == (serial.sources.index("a1.h2"), serial.readers.index("m1"))
    with pytest.raises(BadOption, match="no edge"):
        parallel.edge("a1.h2->m1")


def test_every_edge_is_found_by_its_name():
    components = Components(2, 2, False)

    for source, reader in np.argwhere(components.edges).tolist():
        assert components.edge(components.name(source, reader)) == (source, reader)
    for name in ("m0->a0.h0<q>", "a0.h0", "input->a9.h0<v>", "a0.h1->a0.h0<k>"):
        with pytest.raises(BadOption, match="no edge"):
            components.edge(name)


def test_a_circuit_is_the_strongest_edges_without_those_that_lead_nowhere():
    #   input --5--> m0 --4--> logits;  m0 --9--> a1.h0<q> leads nowhere;  nothing comes into a0.h0 --8--> m0
    components = Components(2, 1, False)
    scores = np.zeros(components.edges.shape)
    for name, score in {"input->m0": 5, "m0->logits": -4, "m0->a1.h0<q>": 9, "a0.h0->m0": 8}.items():
        scores[components.edge(name)] = score

    chosen = strongest(components, scores, 4)

    assert [components.name(*edge) for edge in np.argwhere(chosen).tolist()] == ["input->m0", "m0->logits"]
    assert not strongest(components, scores, 3, signed=True).any()
    assert (connected(components, components.edges) == components.edges).all()
