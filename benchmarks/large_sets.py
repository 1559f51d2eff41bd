"""Peak memory of tracing with dictionaries larger than memory: random weights, in a temporary folder, removed again.

    python -m benchmarks.large_sets cross-layer --features 98304 --layers 26 --width 256
    python -m benchmarks.large_sets per-layer --features 1153846 --layers 26 --width 64

`cross-layer`: a prompt is traced and attributed. `per-layer`: it is encoded and traced. The model is a random Llama of
that many layers and that width; its own memory is counted too. `anonymous` is what the process holds, `mapped` the
pages of files that it was looking at, which the system takes back when it wants them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from circuits import load_model
from circuits.attributing import attribute
from circuits.formats import load
from circuits.model import Model
from circuits.tracing import trace
from circuits.transcoders.loading import load_transcoders

ACTIVE = 40  # features at a token, about
FREE = 1.3  # times the size of the set that the disk must have


class Watch:
    """The largest anonymous and mapped memory of this process while it runs, in bytes."""

    def __init__(self) -> None:
        self.anonymous = self.mapped = self.both = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            anonymous, mapped = (int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
            self.anonymous = max(self.anonymous, anonymous)
            self.mapped = max(self.mapped, mapped)
            self.both = max(self.both, anonymous + mapped)


def write_model(folder: Path, layers: int, width: int) -> None:
    """A random Llama without a tokenizer: prompts are token ids."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, vocab_size=512)).save_pretrained(folder)


def write_set(folder: Path, kind: str, layers: int, units: int, width: int, threshold: float) -> int:
    """A random JumpReLU set in circuit-tracer's layout, bfloat16. Returns its bytes. Layers differ by their order only:
    one block of random rows is written again and again, turned by the layer's number."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(1)
    lines = (
        f"model_kind: {'cross_layer_transcoder' if kind == 'cross-layer' else 'transcoder_set'}",
        "feature_input_hook: mlp.hook_in",
        "feature_output_hook: mlp.hook_out",
    )
    (folder / "config.yaml").write_text("\n".join(lines) + "\n")
    block = torch.randn(units, width, generator=draw).bfloat16()
    for layer in range(layers):
        encoder = block.roll(layer * 101, 0)
        small = {"b_enc": torch.zeros(units), "b_dec": torch.zeros(width)}
        thresholds = torch.full((units,), threshold)
        if kind == "per-layer":
            tensors = {"W_enc": encoder, "W_dec": encoder.roll(7, 0), **small}
            save_file({**tensors, "activation_function.threshold": thresholds}, folder / f"layer_{layer}.safetensors")
            continue
        tensors = {f"{name}_{layer}": tensor for name, tensor in small.items()}
        tensors |= {f"W_enc_{layer}": encoder, f"threshold_{layer}": thresholds}
        save_file(tensors, folder / f"W_enc_{layer}.safetensors")
        decoder = (block / width).bfloat16()[:, None].expand(units, layers - layer, width).contiguous()
        save_file({f"W_dec_{layer}": decoder}, folder / f"W_dec_{layer}.safetensors")
    return sum(path.stat().st_size for path in folder.iterdir())


def find_threshold(model: Model, tokens: list[int], width: int, units: int) -> float:
    """Where about ACTIVE of so many random features are active: what they read has the same norm at every layer."""
    _, seen = model.run(torch.tensor([tokens]), read=[("mlp_input", 0)])
    norm = float(seen[("mlp_input", 0)].norm(dim=-1).mean())
    return norm * float(
        torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - ACTIVE / units, dtype=torch.float64))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("cross-layer", "per-layer"))
    parser.add_argument("--features", type=int, default=98304, help="in a layer")
    parser.add_argument("--layers", type=int, default=26)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    given = parser.parse_args()
    decoders = given.layers * (given.layers + 1) // 2 if given.kind == "cross-layer" else given.layers
    size = 2 * given.features * given.width * (decoders + given.layers)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        place = Path(name)
        if shutil.disk_usage(place).free < FREE * size:
            parser.error(f"the set takes {size / 1e9:.0f} GB, {place} has less than {FREE} times as much free")
        write_model(place / "model", given.layers, given.width)
        model = load_model(place / "model", device="cpu")
        tokens = [(7 * i) % 512 for i in range(given.tokens)]
        threshold = find_threshold(model, tokens, given.width, given.features)
        size = write_set(place / "set", given.kind, given.layers, given.features, given.width, threshold)
        print(json.dumps({**vars(given), **measure(model, place / "set", tokens, size), "folder": None}, indent=1))


def measure(model: Model, folder: Path, tokens: list[int], size: int) -> dict[str, object]:
    """What one prompt costs."""
    with Watch() as watch:
        began = time.perf_counter()
        transcoders = load_transcoders(folder, model, force=True)
        opened = time.perf_counter() - began
        run = trace(model, transcoders, tokens)
        traced = time.perf_counter() - began - opened
        graph = None
        if load(folder).cross_layer:
            graph = attribute(model, transcoders, tokens, max_features=500)
    return {
        "features": transcoders.units * transcoders.layers,
        "set_gigabytes": round(size / 1e9, 2),
        "active": len(run.layer),
        "edges": None if graph is None else len(graph.weight),
        "open_seconds": round(opened, 1),
        "trace_seconds": round(traced, 1),
        "all_seconds": round(time.perf_counter() - began, 1),
        "peak_anonymous_gigabytes": round(watch.anonymous / 1e9, 2),
        "peak_mapped_gigabytes": round(watch.mapped / 1e9, 2),
        "peak_gigabytes": round(watch.both / 1e9, 2),
    }


if __name__ == "__main__":
    main()
