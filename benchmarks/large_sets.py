"""Memory and bytes read where a dictionary is larger than memory: random weights in a temporary folder, removed again.

    python -m benchmarks.large_sets cross-layer --features 98304 --width 2304
    python -m benchmarks.large_sets cross-layer --features 98304 --width 256 --decoders whole
    python -m benchmarks.large_sets per-layer --features 1153847 --width 320

A prompt is traced, and with a cross-layer set attributed, in a process of its own that finds none of the set's files in
the page cache. The model is a random Llama with a stream of that width, narrow within its layers: it is not what is
measured. The set is bfloat16; all its rows come from one block of random ones, each layer's from another place in it.

`--decoders active`: every encoder is written, and of the decoders the rows of the features that are active on the
prompt, each at its place; what lies between is a hole that takes no disk. `whole`: every row is written. Which features
are active does not depend on the decoders: `trace` goes on with the model's own MLP outputs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import BFloat16
from torch import Tensor

from benchmarks.bench.spending import memory
from circuits import load_model
from circuits.attributing import attribute
from circuits.model import Model
from circuits.tracing import trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.loading import load_transcoders

ACTIVE = 40  # features at a token, about
TRACED = 500  # features whose inputs are attributed
VOCABULARY = 512
FREE = 1.3  # times what the set takes that the disk must have
STEP = 101  # rows of the block between one layer's first and the next one's
AT_ONCE = 2**26  # numbers written at once
DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}


# -- the model and the set --------------------------------------------------------------------------------------------


def write_model(folder: Path, layers: int, width: int) -> None:
    """A random Llama without a tokenizer: prompts are token ids."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 256, "num_attention_heads": 4, "head_dim": 32}
    config = LlamaConfig(**sizes, num_hidden_layers=layers, vocab_size=VOCABULARY)
    LlamaForCausalLM(config).save_pretrained(folder)


def find_threshold(model: Model, tokens: list[int], units: int) -> float:
    """Where about ACTIVE of so many random features are active: what they read has the same norm at every layer."""
    _, seen = model.run(torch.tensor([tokens]), read=[("mlp_input", 0)])
    norm = float(seen[("mlp_input", 0)].norm(dim=-1).mean()) / model.d_model
    return norm * float(
        torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - ACTIVE / units, dtype=torch.float64))
    )


class RandomSet:
    """A JumpReLU set in circuit-tracer's layout.

    kind: "cross-layer" or "per-layer". units, width: of each layer.
    """

    def __init__(self, folder: Path, kind: str, layers: int, units: int, width: int) -> None:
        self.folder, self.layers, self.units, self.width = folder, layers, units, width
        self.cross_layer = kind == "cross-layer"
        rows = units + layers * (STEP + 1) + 1
        self._block = (torch.randn(rows, width, generator=torch.Generator().manual_seed(1)) / width).bfloat16()

    def encoder(self, layer: int) -> BFloat16[Tensor, "unit d_in"]:
        return self._block[layer * STEP :][: self.units]

    def decoder(self, layer: int) -> BFloat16[Tensor, "unit written_layer d_out"]:
        """A view: what unit u writes is rows u + 1, u + 2 … of its layer's part of the block."""
        written = self.layers - layer if self.cross_layer else 1
        return self._block[layer * STEP + 1 :][: self.units + written - 1].unfold(0, written, 1).mT

    def decoder_file(self, layer: int) -> tuple[Path, str]:
        """Where a layer's decoder is, and its name there."""
        if self.cross_layer:
            return self.folder / f"W_dec_{layer}.safetensors", f"W_dec_{layer}"
        return self.folder / f"layer_{layer}.safetensors", "W_dec"

    def write(self, threshold: float, *, holes: bool) -> None:
        """All of it; or with `holes` all but the decoders, whose place is left empty."""
        self.folder.mkdir()
        kind = "cross_layer_transcoder" if self.cross_layer else "transcoder_set"
        hooks = "feature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n"
        (self.folder / "config.yaml").write_text(f"model_kind: {kind}\n{hooks}", encoding="utf-8")
        thresholds, no_bias = torch.full((self.units,), threshold), torch.zeros(self.units)
        for layer in range(self.layers):
            path, name = self.decoder_file(layer)
            decoder, b_dec = self.decoder(layer), torch.zeros(self.width)
            tensors = {"W_enc": self.encoder(layer), "b_enc": no_bias, "b_dec": b_dec}
            if self.cross_layer:
                tensors = {f"{name}_{layer}": tensor for name, tensor in tensors.items()}
                tensors[f"threshold_{layer}"] = thresholds
                write_tensors(self.folder / f"W_enc_{layer}.safetensors", tensors)
                write_tensors(path, {name: decoder}, hole=name if holes else None)
            else:
                tensors |= {"activation_function.threshold": thresholds, "W_dec": decoder[:, 0]}
                write_tensors(path, tensors, hole=name if holes else None)

    def fill(self, layer: int, units: list[int]) -> None:
        """Write these units' decoder rows into the hole."""
        path, name = self.decoder_file(layer)
        decoder = self.decoder(layer)
        begin, length = find_tensor(path, name)[0], decoder[0].numel() * decoder.element_size()
        with path.open("r+b") as file:
            for unit in units:
                file.seek(begin + unit * length)
                file.write(_bytes(decoder[unit]))


def write_tensors(path: Path, tensors: dict[str, Tensor], *, hole: str | None = None) -> None:
    """A safetensors file; views are written as they read, a few rows at a time. hole: the tensor that is left out."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            if name == hole:
                file.seek(tensor.numel() * tensor.element_size(), os.SEEK_CUR)
                continue
            for rows in tensor.split(max(1, AT_ONCE // tensor[0].numel())):
                file.write(_bytes(rows))
        file.truncate()


def find_tensor(path: Path, name: str) -> tuple[int, int]:
    """Where in a safetensors file a tensor begins and ends, in bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
    return 8 + length + begin, 8 + length + end


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().view(torch.uint8).numpy()).cast("B")


# -- what it costs ----------------------------------------------------------------------------------------------------


class Watch:
    """The largest anonymous memory of this process while it runs, in bytes."""

    def __init__(self) -> None:
        self.anonymous = 0.0
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
            self.anonymous = max(self.anonymous, memory("RssAnon"))


def read_from_disk() -> int:
    """Bytes that this process made the disk deliver so far, reading ahead included."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="utf-8").splitlines())
    return int(lines["read_bytes"])


def forget(folder: Path) -> None:
    """Take the files of a folder out of the page cache."""
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(path: Path, begin: int, end: int) -> int:
    """Bytes of a part of a file that are in the page cache."""
    page = mmap.PAGESIZE
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = np.zeros(-(-len(mapped) // page), dtype=np.uint8)
        start = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(pages.ctypes.data)
        )
        del start
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return int((pages[begin // page : -(-end // page)] & 1).sum()) * page


def find_active(place: Path, tokens: list[int]) -> tuple[list[int], list[int]]:
    """Layer and unit of what is active on the prompt."""
    model = load_model(place / "model", device="cpu")
    run = trace(model, load_transcoders(place / "set", model, force=True), tokens)
    return run.layer.tolist(), run.unit.tolist()


def measure(place: Path, tokens: list[int]) -> dict[str, Any]:
    """What opening the set, tracing one prompt and attributing it cost. Seconds; gigabytes are 10^9 bytes."""
    model = load_model(place / "model", device="cpu")
    found: dict[str, Any] = {"before_gigabytes": memory("VmRSS") / 1e9}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began, read = time.perf_counter(), read_from_disk()
        done = work()
        found[f"{what}_seconds"] = time.perf_counter() - began
        found[f"{what}_read_gigabytes"] = (read_from_disk() - read) / 1e9
        return done

    with Watch() as watch:
        transcoders: Dictionary = timed("open", lambda: load_transcoders(place / "set", model, force=True))
        run = timed("trace", lambda: trace(model, transcoders, tokens))
        found["active"] = len(run.layer)
        if len(transcoders.written_layers(0)) > 1:
            graph = timed("attribute", lambda: attribute(model, transcoders, tokens, max_features=TRACED))
            found["edges"] = len(graph.weight)
    found["peak_anonymous_gigabytes"], found["peak_gigabytes"] = watch.anonymous / 1e9, memory("VmHWM") / 1e9
    for layer in range(model.layers):
        written = transcoders.writing(layer, run.unit[run.layer == layer], layer)
        assert bool(written.any(1).all()), "a decoder row that was read is a hole"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("cross-layer", "per-layer"))
    parser.add_argument("--features", type=int, default=98304, help="in a layer")
    parser.add_argument("--layers", type=int, default=26)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--decoders", choices=("active", "whole"), default="active", help="which rows are written")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        place = Path(name)
        written = given.layers * (given.layers + 1) // 2 if given.kind == "cross-layer" else given.layers
        size = 2 * given.features * given.width * (given.layers + (written if given.decoders == "whole" else 0))
        if shutil.disk_usage(place).free < FREE * size:
            parser.error(f"the set takes {size / 1e9:.0f} GB, {place} has less than {FREE} times as much free")
        tokens = [(7 * i) % VOCABULARY for i in range(given.tokens)]
        write_model(place / "model", given.layers, given.width)
        threshold = find_threshold(load_model(place / "model", device="cpu"), tokens, given.features)
        made = RandomSet(place / "set", given.kind, given.layers, given.features, given.width)
        made.write(threshold, holes=given.decoders == "active")
        if given.decoders == "active":
            layers, units = _apart(find_active, place, tokens)
            for layer in range(given.layers):
                made.fill(layer, sorted({unit for at, unit in zip(layers, units, strict=True) if at == layer}))
        forget(place / "set")
        found = _apart(measure, place, tokens)
        decoders = [(path, *find_tensor(path, name)) for path, name in map(made.decoder_file, range(given.layers))]
        sizes = [path.stat() for path in (place / "set").iterdir()]
        found |= {
            "set_gigabytes": sum(each.st_size for each in sizes) / 1e9,
            "on_disk_gigabytes": sum(each.st_blocks for each in sizes) * 512 / 1e9,
            "decoders_gigabytes": sum(end - begin for _, begin, end in decoders) / 1e9,
            "decoders_touched_gigabytes": sum(cached(*each) for each in decoders) / 1e9,
        }
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps({**vars(given), "folder": None, **rounded}, indent=1))


def _apart(work: Callable[..., Any], *given: object) -> Any:
    """A function's result from a process of its own, whose memory is nobody else's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


if __name__ == "__main__":
    main()
