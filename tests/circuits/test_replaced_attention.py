"""Attention replaced: every edge against autograd through the real model's own forward pass, and by experiment."""

import numpy as np
import pytest
import torch

from circuits.attributing import attribute
from circuits.holding import hold_attention
from circuits.model import Model
from circuits.tracing import Trace, trace
from circuits.transcoders.attention_autoencoders import AttentionAutoencoders
from circuits.transcoders.base import Dictionary
from circuits.transcoders.lorsa import Lorsa, Rotation
from circuits.transcoders.transcoders import Transcoders
from circuits.transcoders.with_attention import attention_of, put_beside
from graphs.graph import AttributionGraph
from graphs.nodes import OF_ATTENTION
from tests.circuits.oracle import norms_in_float64
from tests.circuits.worlds import NATIVE, dictionary_of, model_of, native_of

PROMPT = "a red fox runs here"
LONG = "a red fox runs here now there a blue dog sleeps here"
# family, what replaces MLPs, which layers' attention is replaced, where its set reads and writes
WORLDS = {
    "llama": ("llama", "per-layer", (0, 1, 2), "attention_normalised", "attention_output"),
    "llama, one layer": ("llama", "cross-layer", (1,), "attention_input", "attention_output"),
    "gpt2": ("gpt2", "skip", (0, 1, 2), "attention_input", "attention_output"),
    "gpt2, not the first": ("gpt2", "per-layer", (1, 2), "attention_normalised", "attention_raw"),
    "gemma2": ("gemma2", "neurons", (0, 2), "attention_normalised", "attention_raw"),
    "gemma3": ("gemma3_text", "skip", (0, 1, 2), "attention_input", "attention_output"),
    "parallel": ("gpt_neox", "skip", (0, 1, 2), "attention_input", "attention_output"),
    "parallel, one layer": ("phi", "per-layer", (1,), "attention_normalised", "attention_output"),
    "norm behind": ("olmo2", "per-layer", (0, 1), "attention_input", "attention_raw"),
    "autoencoders": ("llama", "per-layer", (0, 1, 2), "attention_output", "attention_output"),
    "autoencoders, not the first": ("gpt2", "cross-layer", (1, 2), "attention_output", "attention_output"),
    "autoencoders, norm behind": ("gemma2", "skip", (0, 2), "attention_output", "attention_output"),
    "autoencoders, parallel": ("gpt_neox", "skip", (1, 2), "attention_output", "attention_output"),
    "autoencoders, more tokens than heads": ("gpt2", "per-layer", (2,), "attention_output", "attention_output"),
    "more tokens than heads": ("llama", "skip", (2,), "attention_input", "attention_output"),
    "attention alone": ("attention-only", "neurons", (0, 1), "attention_input", "attention_output"),
    "looking both ways": ("two-way", "per-layer", (2,), "attention_input", "attention_output"),
    "autoencoders, looking both ways": ("two-way", "per-layer", (1,), "attention_output", "attention_output"),
    "no norms": ("no-norms", "per-layer", (0, 1), "attention_normalised", "attention_output"),
}
worlds = pytest.mark.parametrize("world", WORLDS)


def lorsa_of(model: Model, numbers: tuple[int, ...], reads: str, writes: str, units: int = 8, heads: int = 2) -> Lorsa:
    """A random set for the attention of some layers of a model. Thresholds are positive, biases are not small."""
    draws = torch.Generator().manual_seed(13)

    def draw(*shape: int) -> list[torch.Tensor]:
        return [torch.randn(*shape, generator=draws, dtype=torch.float64).to(model.dtype) for _ in numbers]

    return Lorsa(
        name="lorsa",
        content_hash="random",
        numbers=numbers,
        reads=reads,
        writes=writes,
        W_Q=draw(heads, model.d_model, 4),
        W_K=draw(heads, model.d_model, 4),
        b_Q=draw(heads, 4),
        b_K=draw(heads, 4),
        W_V=draw(units, model.d_model),
        W_O=draw(units, model.d_model),
        b_V=draw(units),
        b_O=draw(model.d_model),
        threshold=[each.abs() * 0.1 for each in draw(units)],
        score_scale=[8.0 for _ in numbers],
        rotation=[Rotation(4, 100.0, adjacent=False) for _ in numbers],
        zoom=[0.5 for _ in numbers],
        scale=[0.7 for _ in numbers],
    )


def autoencoders_of(model: Model, numbers: tuple[int, ...]) -> AttentionAutoencoders:
    """A random set that rebuilds the attention output of some layers."""
    alike = dictionary_of(model, "per-layer", reads="attention_output", writes="attention_output", units=8)
    assert isinstance(alike, Transcoders)
    return AttentionAutoencoders(alike.only(numbers))


def world_of(name: str, dtype: str = "float64") -> tuple[Model, Dictionary, str | list[int]]:
    family, kind, numbers, reads, writes = WORLDS[name]
    native = family in NATIVE
    model = (native_of if native else model_of)(family, dtype)
    attention = autoencoders_of(model, numbers) if reads == writes else lorsa_of(model, numbers, reads, writes)
    dictionary = put_beside(dictionary_of(model, kind), attention)
    return model, dictionary, [1, 2, 3, 5, 7] if native else LONG if "more tokens" in name else PROMPT


@worlds
def test_every_edge_is_what_autograd_gives(world: str):
    model, dictionary, prompt = world_of(world)
    run = trace(model, dictionary, prompt)
    graph = attribute(model, dictionary, prompt)
    nodes, dense = graph.nodes, graph.to_dense()
    leaves, inputs, logits = frozen_forward(model, dictionary, run)
    sources = nodes.where("token", "feature", "attention", "neuron", "error")
    targets = nodes.where("feature", "attention", "neuron", "logit")
    attention = nodes.where("attention")
    for row in {*targets[:: -max(1, len(targets) // 12)], *attention[:: max(1, len(attention) // 8)]}:
        value = read(model, dictionary, run, graph, int(row), inputs, logits)
        np.testing.assert_allclose(value.item(), nodes.value[row], rtol=1e-6, atol=1e-6)
        found = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
        gradients = {
            place: torch.zeros_like(leaf) if g is None else g
            for (place, leaf), g in zip(leaves.items(), found, strict=True)
        }
        expected = [
            sum(
                float((gradients[place][0] * vectors).sum())
                for place, vectors in written(run, dictionary, graph, s).items()
            )
            for s in sources
        ]
        np.testing.assert_allclose(dense[row, sources], expected, rtol=0, atol=1e-10 * np.abs(dense[row]).max())


@worlds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_inputs_of_every_target_sum_to_its_value(world: str, dtype: str):
    model, dictionary, prompt = world_of(world, dtype)

    graph = attribute(model, dictionary, prompt)

    total = np.bincount(graph.target, weights=graph.weight, minlength=len(graph.nodes))
    gross = np.bincount(graph.target, weights=np.abs(graph.weight), minlength=len(graph.nodes))
    targets = graph.nodes.where("feature", "attention", "neuron", "logit")
    off = np.abs(total - graph.nodes.value)[targets] / gross[targets]
    assert off.max() <= {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert len(targets) == graph.provenance["active"] + (graph.nodes.kind == "logit").sum()
    errors = graph.nodes.feature[graph.nodes.where("error")]
    assert (errors == OF_ATTENTION).sum() == len(WORLDS[world][2]) * len(graph.tokens)


@worlds
def test_taking_a_source_away_moves_each_target_by_its_edge(world: str):
    """Patterns, scales, MLP outputs and replaced attention outputs are held; the source's own writes are left out."""
    model, dictionary, prompt = world_of(world)
    run = trace(model, dictionary, prompt)
    graph = attribute(model, dictionary, prompt)
    nodes, dense = graph.nodes, graph.to_dense()
    targets = nodes.where("feature", "attention", "neuron", "logit")
    scale = np.abs(dense[targets]).max(1)

    def read_all(taken: dict) -> np.ndarray:
        _, inputs, logits = frozen_forward(model, dictionary, run, taken)
        return np.array([float(read(model, dictionary, run, graph, int(t), inputs, logits)) for t in targets])

    clean = read_all({})
    for source in np.concatenate([nodes.where(kind)[::17] for kind in ("token", "error", "feature", "attention")]):
        left = read_all(written(run, dictionary, graph, int(source)))

        np.testing.assert_array_less(np.abs((clean - left) - dense[targets, source]), 1e-6 * scale + 1e-9)


def written(
    run: Trace, dictionary: Dictionary, graph: AttributionGraph, row: int
) -> dict[tuple[str, int], torch.Tensor]:
    """What a source adds to the stream, by the place where it does: vectors at every position."""
    nodes = graph.nodes
    layer, position, unit = int(nodes.layer[row]), int(nodes.position[row]), torch.tensor([int(nodes.feature[row])])
    here, value = torch.tensor([position]), float(nodes.activation[row])

    def alone(vector: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(run.residual)
        found[position] = vector
        return found

    if nodes.kind[row] == "token":
        return {("token_embedding", 0): alone(run.frozen.embedding[position])}
    if nodes.kind[row] == "error" and nodes.feature[row] == OF_ATTENTION:
        return {("attention_output", layer): alone(run.attended[layer].errors[position])}
    if nodes.kind[row] == "error":
        assert run.errors is not None
        return {("mlp_output", layer): alone(run.errors[layer, position])}
    if nodes.kind[row] == "attention":
        attention = attention_of(dictionary)
        assert attention is not None
        vector = value * attention.writing(layer, unit)[0]
        norm = run.frozen.attention_post_norm[layer]
        if attention.writes == "attention_raw" and norm is not None:
            vector = norm.gain * vector / norm.scale[position]
        return {("attention_output", layer): alone(vector)}
    return {
        ("mlp_output", to): alone(
            run.frozen.written(value * dictionary.writing(layer, unit, to), to, here, dictionary.at(to).writes)[0]
        )
        for to in dictionary.written_layers(layer)
    }


def read(
    model: Model, dictionary: Dictionary, run: Trace, graph: AttributionGraph, row: int, inputs: dict, logits
) -> torch.Tensor:
    """The value of a target in a run, on autograd's tape."""
    nodes = graph.nodes
    layer, position, unit = int(nodes.layer[row]), int(nodes.position[row]), int(nodes.feature[row])
    if nodes.kind[row] == "logit":
        return logits[0, -1, unit] - logits[0, -1].mean()
    if nodes.kind[row] == "attention":
        attention = attention_of(dictionary)
        assert attention is not None
        vector, constant = attention.reading(layer, torch.tensor([unit]))
        if not isinstance(attention, Lorsa):
            return inputs[("attention", layer)][0, position] @ vector[0] + constant[0]
        pattern = attention.patterns(layer, run.attended[layer].inputs)[unit // 4, position]
        return (
            sum(pattern[key] * (inputs[("attention", layer)][0, key] @ vector[0]) for key in range(len(pattern)))
            + constant[0]
        )
    vector, constant = dictionary.reading(layer, run.inputs[layer][position, None], torch.tensor([unit]))
    return inputs[("mlp", layer)][0, position] @ vector[0] + constant[0]


def frozen_forward(
    model: Model, dictionary: Dictionary, run: Trace, taken: dict | None = None
) -> tuple[dict, dict, torch.Tensor]:
    """The real model with hooks: scales and patterns held, MLP outputs and replaced attention outputs made leaves.

    Gives the leaves by site, what is read by ("mlp" | "attention", layer), and the logits. taken: what is left out.
    """
    attention = attention_of(dictionary)
    assert attention is not None
    layers = range(model.layers)
    sites = [("token_embedding", 0), *(("mlp_output", layer) for layer in layers)]
    sites += [("attention_output", layer) for layer in attention.numbers]
    _, clean = model.run(run.tokens[None], read=[*sites, *model.scales()])
    leaves = {site: clean[site].clone() for site in sites}
    for site, vectors in (taken or {}).items():
        leaves[site] = leaves[site] - vectors
    leaves = {site: leaf.clone().requires_grad_() for site, leaf in leaves.items()}
    inputs: dict = {}
    edits = {site: (lambda s, site=site: clean[site].to(s)) for site in model.scales()} | hold_attention(run)

    def keep(place: str, layer: int):
        return lambda x: inputs.setdefault((place, layer), x)

    def put(site, layer: int):
        def edit(now):
            if site[0] == attention.reads:
                inputs.setdefault(("attention", layer), now)
            skip = dictionary.skip(layer) if site[0] == "mlp_output" else None
            if skip is None:
                return leaves[site]
            return leaves[site] + (inputs[("mlp", layer)] - run.inputs[layer]) @ skip.T

        return edit

    for layer in layers:
        edits[(dictionary.at(layer).reads, layer)] = keep("mlp", layer)
    for layer in attention.numbers:
        edits[(attention.reads, layer)] = keep("attention", layer)
    edits |= {site: put(site, site[1]) for site in sites}
    with torch.enable_grad(), norms_in_float64():
        logits, _ = model.run(run.tokens[None], edit=edits, gradient=True)
    return leaves, inputs, logits
