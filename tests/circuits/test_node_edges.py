"""Edges between kept nodes, against patching each by itself, and against what they must add up to."""

import pytest
import torch

from circuits.attribution import EDGE_METHODS, PART_METHODS
from circuits.components import node_edges
from circuits.components.edge_scores import components_of, read_logits
from circuits.components.kept_nodes import nodes_of, readers_of
from circuits.components.metrics import logit_difference
from circuits.components.node_edges import score_node_edges
from circuits.components.norms import normalise
from circuits.components.opening import transformer_of
from circuits.components.parts import Parts, column_of, parts_of
from circuits.components.taking_apart import take_apart
from circuits.components.transformer import Transformer
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import dictionary_of, model_of

CLEAN = {"steps": 1, "begin": "clean"}  # gradients of the clean run alone
SMALL = 1e-6


def opened(
    family: str, kind: str = "per-layer", *, reads: str = "mlp_input", writes: str = "mlp_output"
) -> tuple[Transformer, Parts]:
    model = model_of(family)
    transformer = take_apart(transformer_of(model), dictionary_of(model, kind, reads=reads, writes=writes), [PAIRS])
    return transformer, parts_of(transformer, neurons=True)


def all_of(parts: Parts, *, positions: bool = False) -> torch.Tensor:
    kept = torch.ones(len(parts.names), dtype=torch.bool)
    return kept[:, None].expand(-1, 6) if positions else kept


@pytest.mark.parametrize("family", OPEN)
@pytest.mark.parametrize("options", [CLEAN, {"steps": 3, "begin": "corrupted"}])
def test_edges_between_whole_components_are_those_of_eap_and_eap_ig(family, options):
    transformer = transformer_of(model_of(family))
    parts, components = parts_of(transformer), components_of(transformer)

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts), **options)

    names = [reader.name for reader in readers_of(nodes_of(parts, all_of(parts)))]
    expected = EDGE_METHODS["eap-ig"](transformer, PAIRS, logit_difference, **options)
    torch.testing.assert_close(found[:, [names.index(name) for name in components.readers]], expected)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize(
    ("kind", "sites"),
    [
        ("per-layer", {"reads": "mlp_input", "writes": "mlp_output"}),
        ("per-layer", {"reads": "residual_mid", "writes": "mlp_raw"}),
        ("autoencoder", {}),
        ("mixed", {}),
        ("neurons", {}),
    ],
)
def test_edges_out_of_a_node_add_up_to_its_score_and_those_of_units_to_their_mlps(family, kind, sites):
    transformer, parts = opened(family, kind, **sites)
    whole = parts_of(transformer)
    scores = PART_METHODS["atp"](transformer, PAIRS, logit_difference, parts, positions=True)

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts), **CLEAN)
    apart = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts, positions=True), **CLEAN)
    coarse = score_node_edges(transformer, PAIRS, logit_difference, whole, all_of(whole), **CLEAN)

    torch.testing.assert_close(found.sum(1), scores.sum(1))
    torch.testing.assert_close(apart.sum(1), scores.flatten())
    # A norm behind an MLP is linear to its units, not to the MLP: there only what they read adds up.
    linear = transformer.layers[0].mlp_post_norm is None or sites.get("writes") == "mlp_output"
    nodes = nodes_of(parts, all_of(parts))
    ours, theirs = ([own_part(each.name) for each in some] for some in (nodes, readers_of(nodes)))
    for row, writer in enumerate(nodes_of(whole, all_of(whole))):
        for column, reader in enumerate(readers_of(nodes_of(whole, all_of(whole)))):
            if linear or writer.column[0] != "mlp":
                rows = [at for at, name in enumerate(ours) if name == writer.name]
                columns = [at for at, name in enumerate(theirs) if name == reader.name]
                torch.testing.assert_close(found[rows][:, columns].sum(), coarse[row, column])


def own_part(name):
    """The MLP of a unit; of other parts themselves."""
    return name.split(".")[0] if name.startswith("m") else name


def written(transformer, column, own, clean, other, share):
    """What a share of a part's change between the runs adds to the stream."""
    name, at, _ = column
    change = share * (column_of(other, column) - column_of(clean, column))
    if name == "input":
        return change
    layer = transformer.layers[at]
    if name == "mixed":
        moved = clean.mixed[at].clone()
        moved[:, own] += change[:, own]
        return normalise(layer.post_norm, layer.write(moved)) - normalise(layer.post_norm, clean.attention[at])
    active, error, neurons = clean.features[at].clone(), clean.errors[at], clean.neurons[at].clone()
    if name == "neurons":
        neurons[..., own] += change[..., own]
        return layer.write_mlp(neurons) - clean.mlp[at]
    if name == "errors":
        error = error + change
    else:
        active[..., own] += change[..., own]
    return layer.write_units(neurons, active, error) - clean.mlp[at]


def reading(transformer, column, own, letter, clean, added):
    """What takes a node's place in a run when it alone reads so much more."""
    name, at, _ = column
    layer = transformer.layers[at]
    if name == "mixed":
        word, of = {"q": ("query", layer.query), "k": ("key", layer.key), "v": ("value", layer.value)}[letter]
        values = getattr(clean, word)[at].clone()
        values[:, own] = of(normalise(layer.norm, clean.before[at] + added))[:, own]
        return {(word, at): values}
    stream = clean.mlp_input[at] + added
    neurons = layer.neurons(stream)
    values = column_of(clean, column).clone()
    if name == "errors":
        return {(name, at): layer.split(layer.features, stream, neurons)[1]}
    values[..., own] = (neurons if name == "neurons" else layer.features.active(stream))[..., own]
    return {(name, at): values}


@pytest.mark.parametrize(("family", "kind"), [("gpt2", "per-layer"), ("gemma2", "mixed"), ("gpt_neox", "per-layer")])
def test_an_edge_is_what_patching_it_alone_does_where_it_is_small(family, kind):
    transformer, parts = opened(family, kind, writes="mlp_raw" if kind == "per-layer" else "mlp_output")
    clean, other = (transformer.run(transformer.embed(each), neurons=True) for each in (PAIRS.clean, PAIRS.corrupted))
    nodes = nodes_of(parts, all_of(parts))
    readers = readers_of(nodes)

    def loss(after):
        return -float(logit_difference(read_logits(transformer, after, PAIRS), PAIRS, after, torch.clone).sum())

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts), **CLEAN)

    seen = set()
    for u, v in found.nonzero().tolist()[::23]:
        column, own = nodes[u].column, nodes[u].own
        added = [written(transformer, column, own, clean, other, share) for share in (SMALL, -SMALL)]
        if readers[v].name == "logits":
            ends = [clean.after + each for each in added]
            to = "logits"
        else:
            node = nodes[readers[v].node]
            changed = [reading(transformer, node.column, node.own, readers[v].letter, clean, each) for each in added]
            ends = [transformer.run(transformer.embed(PAIRS.clean), replace=each).after for each in changed]
            to = node.column[0]
        patched = (loss(ends[0]) - loss(ends[1])) / (2 * SMALL)
        assert float(found[u, v]) == pytest.approx(patched, rel=1e-5, abs=1e-8)
        seen.add((column[0], to))
    assert {("mixed", "features"), ("features", "mixed"), ("features", "features"), ("input", "mixed")} <= seen


def test_edges_by_position_add_up_and_run_only_to_what_sees_them():
    transformer, parts = opened("gemma2")
    kept = all_of(parts, positions=True)
    nodes, readers = nodes_of(parts, kept), readers_of(nodes_of(parts, kept))
    whole = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts), **CLEAN)

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, kept, **CLEAN)

    columns = [reader.name for reader in readers_of(nodes_of(parts, all_of(parts)))]
    place = torch.tensor([columns.index(reader.name.partition("@")[0]) for reader in readers])
    row = torch.tensor([parts.names.index(node.name.partition("@")[0]) for node in nodes])
    summed = torch.zeros_like(whole)
    summed.index_put_((row[:, None].expand(found.shape), place.expand(found.shape)), found, accumulate=True)
    torch.testing.assert_close(summed, whole)
    at = torch.tensor([node.position for node in nodes])
    to = torch.tensor([nodes[reader.node].position for reader in readers[:-1]])
    heads = torch.tensor([reader.letter in ("k", "v") and bool(reader.letter) for reader in readers[:-1]])
    unseen = torch.where(heads, at[:, None] > to, at[:, None] != to)
    assert found[:, :-1][unseen].abs().max() == 0
    assert found[:, :-1][(at[:, None] < to) & heads].abs().max() > 0


def test_a_head_reads_only_with_what_is_kept_of_it():
    transformer = take_apart(transformer_of(model_of("llama")), dictionary_of(model_of("llama"), "per-layer"), [PAIRS])
    parts = parts_of(transformer, apart=True, neurons=True)
    gone = {"a1.h2<k>", "a2.h0<v>"}
    kept = torch.tensor([name not in gone for name in parts.names])

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, kept)
    everything = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts))

    names = [reader.name for reader in readers_of(nodes_of(parts, kept))]
    unread = [names.index(name) for name in gone]
    assert found[:, unread].abs().max() == 0 < everything[:, unread].abs().max()
    others = [at for at in range(len(names)) if at not in unread]
    torch.testing.assert_close(found[:, others], everything[:, others])


def test_a_key_that_is_not_kept_at_one_position_is_read_at_the_others():
    transformer = transformer_of(model_of("gpt2"))
    parts = parts_of(transformer, apart=True)
    kept = torch.ones(len(parts.names), 6, dtype=torch.bool)
    everything = score_node_edges(transformer, PAIRS, logit_difference, parts, kept, **CLEAN)
    kept[parts.names.index("a1.h2<k>"), 3] = False

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, kept, **CLEAN)

    nodes = nodes_of(parts, kept)
    there = torch.tensor([node.position == 3 for node in nodes])
    keys = torch.tensor([reader.name.startswith("a1.h2<k>@") for reader in readers_of(nodes)])
    gone = there[:, None] & keys
    assert found[gone].abs().max() == 0 < everything[gone].abs().max()
    torch.testing.assert_close(found[~gone], everything[~gone])


def test_few_readers_at_once_are_the_same_as_many(monkeypatch):
    transformer, parts = opened("gpt2")
    whole = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts), **CLEAN)

    monkeypatch.setattr(node_edges, "NUMBERS", 1)

    found = score_node_edges(transformer, PAIRS, logit_difference, parts, all_of(parts), **CLEAN)
    torch.testing.assert_close(found, whole)
