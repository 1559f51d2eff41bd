"""Circuit-tracer, driven through files: reads a job folder, then does what each line on standard input asks for.

Runs in an environment of its own and imports nothing of ours. Lines are JSON objects with `do`:

    attribute   one attribution, of the job's prompt or of `tokens`; with `save`, its result to that file
    prune       its pruning of the job's graph, or of the graph attributed last; with `save`, the masks to that file
    score       its influence and its two scores, to `save`, of the same graph
    intervene   its `feature_intervention`, with `generate` tokens more its `feature_intervention_generate`: the logits
                and activations to `save`

and each is answered by one line: CPU and wall seconds, and how far memory rose above what the process held before.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.graph import (
    Graph,
    compute_graph_scores,
    compute_node_influence,
    prune_graph,
)
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder import SingleLayerTranscoder, TranscoderSet
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder
from circuit_tracer.utils.tl_nnsight_mapping import UnifiedConfig
from safetensors.torch import load_file
from transformer_lens import HookedTransformerConfig

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Words:
    """Just enough of a tokenizer. Every token counts as special, so that none is put in front of the prompt."""

    def __init__(self, vocabulary: int) -> None:
        self.vocab_size = vocabulary
        self.all_special_ids = range(vocabulary)
        self.bos_token_id = 0
        self.pad_token_id = -1
        self.padding_side = "right"

    def decode(self, ids: Any) -> str:
        return str(ids)


def load_model(folder: Path, job: dict[str, Any]) -> TransformerLensReplacementModel:
    dtype = DTYPES[job["dtype"]]
    config = HookedTransformerConfig(**job["model"], dtype=dtype, device="cpu")
    tensors = load_file(folder / "dictionary.safetensors")
    build = _cross_layer if job["dictionary"]["cross_layer"] else _per_layer
    model = TransformerLensReplacementModel.from_config(config, build(tensors, job["dictionary"], config, dtype))
    wrapped = {"mlp": "mlp.old_mlp", "unembed": "unembed.old_unembed"}
    weights = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        parts = name.split(".")
        weights[".".join(wrapped.get(part, part) for part in parts)] = weight.to(dtype)
    _separate_rotations(model)
    missing, strange = model.load_state_dict(weights, strict=False)
    lacking = [name for name in missing if not name.startswith("transcoders.") and "mask" not in name]
    lacking = [name for name in lacking if "IGNORE" not in name and "rotary" not in name]
    if strange or lacking:
        raise ValueError(f"weights do not fit: missing {lacking[:5]}, strange {strange[:5]}")
    model.tokenizer = Words(config.d_vocab)
    return model


def _separate_rotations(model: TransformerLensReplacementModel) -> None:
    """A rotary table for each layer: it lets all share the last one's, but Gemma 3 turns local layers faster."""
    for block in model.blocks:
        for name in ("rotary_cos", "rotary_sin"):
            if hasattr(block.attn, name):
                setattr(block.attn, name, getattr(block.attn, name).clone())


def _per_layer(
    tensors: dict[str, torch.Tensor], shape: dict[str, Any], config: HookedTransformerConfig, dtype: torch.dtype
) -> TranscoderSet:
    layers = {}
    for layer in range(config.n_layers):
        threshold = JumpReLU(tensors[f"threshold.{layer}"].to(dtype))
        one = SingleLayerTranscoder(
            config.d_model,
            shape["units"],
            threshold,
            layer,
            skip_connection=shape["skip"],
            device=torch.device("cpu"),
            dtype=dtype,
        )
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", *(["W_skip"] if shape["skip"] else [])):
            weight = tensors[f"{name}.{layer}"]
            getattr(one, name).data = (weight[:, 0] if name == "W_dec" else weight).to(dtype).contiguous()
        layers[layer] = one
    return TranscoderSet(layers, shape["input_hook"], shape["output_hook"])


def _cross_layer(
    tensors: dict[str, torch.Tensor], shape: dict[str, Any], config: HookedTransformerConfig, dtype: torch.dtype
) -> CrossLayerTranscoder:
    layers = range(config.n_layers)
    found = CrossLayerTranscoder(
        config.n_layers,
        shape["units"],
        config.d_model,
        activation_function="jump_relu",
        skip_connection=shape["skip"],
        lazy_decoder=False,
        feature_input_hook=shape["input_hook"],
        feature_output_hook=shape["output_hook"],
        device=torch.device("cpu"),
        dtype=dtype,
    )
    for name in ("W_enc", "b_enc", "b_dec"):
        getattr(found, name).data = torch.stack([tensors[f"{name}.{layer}"] for layer in layers]).to(dtype)
    found.activation_function.threshold.data = torch.stack(
        [tensors[f"threshold.{layer}"][None] for layer in layers]
    ).to(dtype)
    for layer in layers:
        found.W_dec[layer].data = tensors[f"W_dec.{layer}"].to(dtype)
    if shape["skip"]:  # applied from the other side than in a per-layer set
        found.W_skip.data = torch.stack([tensors[f"W_skip.{layer}"].T for layer in layers]).to(dtype).contiguous()
    return found


def load_graph(folder: Path, job: dict[str, Any]) -> Graph:
    """A graph handed over as edges, in this program's own order of nodes."""
    edges = np.load(folder / "graph.npz")
    features, layers, tokens = job["features"], job["layers"], job["tokens"]
    nodes = features + (layers + 1) * tokens + len(edges["logit_probabilities"])
    adjacency = torch.zeros(nodes, nodes, dtype=DTYPES[job["dtype"]])
    adjacency[torch.from_numpy(edges["target"]), torch.from_numpy(edges["source"])] = torch.from_numpy(
        edges["weight"]
    ).to(adjacency.dtype)
    config = UnifiedConfig.from_dict(
        {
            "n_layers": layers,
            "d_model": 1,
            "d_head": 1,
            "n_heads": 1,
            "d_mlp": 1,
            "d_vocab": 1,
            "tokenizer_name": "",
            "model_name": "",
            "original_architecture": "",
        }
    )
    return Graph(
        input_string="",
        input_tokens=torch.zeros(tokens, dtype=torch.long),
        active_features=torch.zeros(features, 3, dtype=torch.long),
        adjacency_matrix=adjacency,
        cfg=config,
        selected_features=torch.arange(features),
        activation_values=torch.ones(features),
        logit_targets=[None] * len(edges["logit_probabilities"]),
        logit_probabilities=torch.from_numpy(edges["logit_probabilities"]).to(adjacency.dtype),
        vocab_size=1,
    )


def save_attribution(graph: Graph, path: str) -> None:
    np.savez(
        path,
        adjacency=graph.adjacency_matrix.numpy(),
        active=graph.active_features.numpy(),
        activation=graph.activation_values.detach().numpy(),
        selected=graph.selected_features.numpy(),
        logit_tokens=np.array([target.vocab_idx for target in graph.logit_targets]),
        logit_probabilities=graph.logit_probabilities.detach().numpy(),
    )


def score(graph: Graph, path: str) -> None:
    adjacency = graph.adjacency_matrix
    weights = torch.zeros(len(adjacency), dtype=adjacency.dtype)
    weights[-len(graph.logit_targets) :] = graph.logit_probabilities.to(adjacency.dtype)
    replacement, completeness = compute_graph_scores(graph)
    influence = compute_node_influence(adjacency, weights).numpy()
    np.savez(path, influence=influence, replacement=replacement, completeness=completeness)


def intervene(model: TransformerLensReplacementModel, job: dict[str, Any], order: dict[str, Any]) -> None:
    """Interventions are (layer, position or [first, None] for a slice without end, feature, value)."""
    tokens = torch.tensor(job["tokens"])
    wanted = [
        (layer, slice(*position) if isinstance(position, list) else position, feature, value)
        for layer, position, feature, value in order["interventions"]
    ]
    options = dict(order["options"])
    if options.get("constrained_layers"):
        options["constrained_layers"] = range(*options["constrained_layers"])
    if order["generate"]:
        said, logits, activations = model.feature_intervention_generate(
            tokens[None],
            wanted,
            **options,
            max_new_tokens=order["generate"],
            do_sample=False,
            stop_at_eos=False,
            verbose=False,
            return_type="tokens",
        )
        np.savez(order["save"], said=said[0].numpy(), logits=logits.numpy(), activations=activations.numpy())
    else:
        logits, activations = model.feature_intervention(tokens, wanted, **options)
        np.savez(order["save"], logits=logits[0].numpy(), activations=activations.numpy())


def memory(name: str) -> int:
    """Bytes that the process holds (VmRSS) or has held at most since it was last asked to forget (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    torch.set_default_dtype(DTYPES[job["dtype"]])  # the dtype of its edge matrix
    given = "model" not in job
    graph = load_graph(folder, job) if given else None
    model = None if given else load_model(folder, job)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        # What was freed goes back to the system before it forgets the most that was held, or it would count.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = memory("VmRSS")
        wall, cpu = time.perf_counter(), time.process_time()
        if order["do"] == "attribute":
            graph = attribute(torch.tensor(order["tokens"] or job["tokens"]), model, verbose=False, **order["options"])
        elif order["do"] == "prune":
            kept = prune_graph(graph, order["nodes"], order["edges"])
        answer = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "peak": memory("VmHWM") - before,
        }
        if order["do"] == "score":
            score(graph, order["save"])
        elif order["do"] == "attribute" and order["save"]:
            save_attribution(graph, order["save"])
        elif order["do"] == "prune" and order["save"]:
            np.savez(order["save"], nodes=kept.node_mask.numpy(), edges=kept.edge_mask.numpy())
        elif order["do"] == "intervene":
            intervene(model, job, order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
