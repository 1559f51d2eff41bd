"""Pairs of prompts and a model for them, written to a folder that EAP-IG and we both load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.peers.cases import VOCABULARY, Case, write_model
from benchmarks.peers.hooked_models import write_hooked
from benchmarks.peers.processes import Process, Spent
from benchmarks.peers.scratch import scratch_folder
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer
from circuits.model import Model, load_model

PEER = "eap_ig"
INSTALL = "EAP-IG is not installed: run EAP_IG=CHECKOUT benchmarks/peers/eap_ig/install"
NAMES = {  # ours: the peer's
    "eap": "EAP",
    "eap-ig": "EAP-IG-inputs",
    "eap-ig-activations": "EAP-IG-activations",
    "clean-corrupted": "clean-corrupted",
    "information-flow": "information-flow-routes",
}


@dataclass(frozen=True)
class Work:
    """One model, laid open too, and pairs of prompts. folder: the peer's job."""

    folder: Path
    model: Model
    transformer: Transformer
    pairs: Pairs


def make_work(case: Case, pairs: int, dtype: str = "float32", *, same: int = 0) -> Work:
    """The same model and pairs every time.

    same: how many first tokens the prompts have in common. The next is another, and so are about half of the rest.
    Answers are random, and read after the last token, but in every fourth pair one before it.
    """
    model = write_model(case)
    numbers = torch.Generator().manual_seed(3)
    clean, other = torch.randint(0, VOCABULARY, (2, pairs, case.tokens), generator=numbers)
    differs = torch.rand(pairs, case.tokens, generator=numbers) < 0.5
    differs[:, :same], differs[:, same] = False, True
    right, wrong = torch.rand(pairs, VOCABULARY, generator=numbers).topk(2).indices.unbind(1)
    drawn = {
        "clean": clean,
        "corrupted": torch.where(differs, other, clean),
        "right": right,
        "wrong": wrong,
        "position": case.tokens - 1 - (torch.arange(pairs) % 4 == 3).long(),
    }
    loaded, prompts = load_model(model, dtype=dtype), Pairs(**drawn)
    return Work(write_job(model, [prompts], getattr(torch, dtype)), loaded, transformer_of(loaded), prompts)


def write_job(model: Path, pairs: Sequence[Pairs], dtype: torch.dtype) -> Path:
    """A job folder with a model, in Hugging Face layout, and prompts, those of one length together.

    Raises:
        NotTranslated: the model's architecture is not known here.
    """
    folder = scratch_folder("job-")
    answers = {
        name: torch.cat([getattr(each, name) for each in pairs]).tolist() for name in ("right", "wrong", "position")
    }
    prompts = [{"clean": each.clean.tolist(), "corrupted": each.corrupted.tolist()} for each in pairs]
    settings = write_hooked(model, folder, dtype)
    job = {"model": settings, "dtype": str(dtype).removeprefix("torch."), "prompts": prompts, **answers}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder


class Peer(Process):
    """EAP-IG with one job, waiting for orders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(PEER, folder)

    def score(
        self,
        method: str,
        *,
        metric: str = "logit-difference",
        steps: int = 5,
        later: int = 0,
        batch: int = 32,
        frozen: bool = False,
        asking: bool = False,
        save: Path | None = None,
    ) -> Spent:
        """Every edge, by the method that we call so; see its `run.py`.

        later: how many steps nearer to the clean prompt the points of integrated gradients lie than it has them.
        frozen: parameters take no gradients, which saves it time; of gradients, its EAP-IG over inputs alone can do
            without.
        asking: embeddings that its integration over activations puts in place ask for gradients, which it forgets.
        """
        how = {"method": NAMES[method], "metric": metric, "steps": steps, "later": later, "asking": asking}
        return self.do("score", **how, batch=batch, frozen=frozen, save=save)

    def evaluate(self, edges: int, save: Path, *, metric: str = "logit-difference", batch: int = 32) -> None:
        """The circuit of its strongest edges, and what it keeps of each pair's metric."""
        self.do("evaluate", edges=edges, metric=metric, batch=batch, save=save)

    def sweep(self, *, metric: str = "logit-difference", save: Path | None = None) -> Spent:
        """TransformerLens's activation patching, denoising, of every head."""
        return self.do("sweep", metric=metric, save=save)
