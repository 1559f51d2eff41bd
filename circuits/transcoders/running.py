"""A whole training in a folder: begun, stopped and gone on with as if it had not been, finished and measured.

While it runs, `training/` in it holds the settings, the texts and the last checkpoint, and `training.csv` beside that
grows line by line. In the end the set takes the place of `training/`.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from safetensors import SafetensorError

from circuits.errors import BadRun
from circuits.formats import load
from circuits.model import Model
from circuits.progress import Progress
from circuits.sizes import size_in_words
from circuits.texts import Texts, read_texts, say_texts
from circuits.transcoders.batches import Draw, batch_of
from circuits.transcoders.checkpoints import GO_ON, load_json, load_tensors, replace_file, save_json, save_tensors
from circuits.transcoders.fit import POOR, measure
from circuits.transcoders.logs import Log, Numbers, read_log
from circuits.transcoders.notes import TOKENS, make_notes
from circuits.transcoders.saving import NOTES, save_cross_layer, save_notes, save_per_layer
from circuits.transcoders.settings import SELF, Settings, check_settings
from circuits.transcoders.teachers import Whole
from circuits.transcoders.train import Plan, Training
from circuits.transcoders.transcoders import Transcoders
from graphs.errors import CannotWrite
from graphs.export.picture import to_svg
from graphs.export.plots.training import compose_training

WORK = "training"
RUN, TEXTS, CHECKPOINT = f"{WORK}/run.json", f"{WORK}/texts.safetensors", f"{WORK}/checkpoint.safetensors"
LOG, PICTURE, RECORD = "training.csv", "training.svg", "training.json"

RATE, WIDTH = 2e-3, 64  # of Adam for a model of this width; it falls with the root of the width
REPORTS = 200  # lines of the log, about
SAVE_EVERY = 30.0  # seconds between checkpoints, at least
SAVE_SHARE = 20.0  # times as long is trained as is saved
SAYING = 0.1  # the share of its minutes that a training may spend on texts of the model's own
REPEATED = 4  # times that each of these is trained on, about
FEWEST, MANY = 64, 2**31  # of these
ROOM = 7  # sets as large that fit on the disk beside each other: two checkpoints of three each, and the set
TESTED_AT_ONCE = 8  # texts

# What the picture shows of the log, and how it is called there.
CHARTS = {
    "fvu": "FVU, variance unexplained",
    "l0": "L0, features active at a token",
    "dead": "share of features dead",
    "kl": "KL, all MLPs replaced, nats",
}


@dataclass(frozen=True)
class Outcome:
    """A finished set, on texts that it was not trained on.

    fvu, l0: per layer. dead: the share of features that fired no more in the end. kl: nats a token, between the model
    and the model with every MLP replaced. steps, tokens, seconds: trained. tested: tokens measured on.
    """

    folder: Path
    fvu: list[float]
    l0: list[float]
    dead: float
    kl: float
    steps: int
    tokens: int
    seconds: float
    tested: int

    @property
    def fits(self) -> bool:
        """Whether it explains enough to pass the test that sets must pass when they are loaded."""
        return median(self.fvu) < POOR

    def to_json(self) -> dict[str, Any]:
        """As a record."""
        return {**asdict(self), "folder": str(self.folder)}


def settings_of(folder: Path) -> Settings | None:
    """Of the unfinished training in a folder; None where there is none. Raises BadRun."""
    if not (folder / RUN).is_file():
        return None
    try:
        return Settings(**load_json(folder / RUN))
    except TypeError as reason:
        raise BadRun(f"{folder / RUN} is of another version of this program: train again in a new folder.") from reason


def check_folder(folder: Path, *, resume: bool) -> None:
    """A training may begin in this folder, or with `resume` go on there.

    Raises:
        BadRun: it holds something else.
    """
    under_way = (folder / RUN).is_file()
    if resume and not under_way:
        found = "a finished set" if (folder / RECORD).is_file() else "no training"
        raise BadRun(f"{folder} holds {found}: there is nothing to go on with. Leave --resume out, or give its folder.")
    if not resume and under_way:
        raise BadRun(f"{folder} holds a training that is not finished: go on with --resume, or give another folder.")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not resume and names not in ([], [WORK]):  # killed before it had settings, a training left WORK alone
        raise BadRun(
            f"{folder} is not empty (it holds {', '.join(names[:4])}): give another folder, so that nothing is lost."
        )


def run_training(
    model: Model,
    settings: Settings,
    folder: Path,
    *,
    data: str = SELF,
    report: Callable[[float, Numbers], None] = lambda share, numbers: None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train a set into a folder, or go on with what was begun there.

    data: SELF, or the path of a file; not looked at when the training goes on. report: hears how much is done, and the
    numbers of a line of the log. clock: seconds, by which minutes are counted.

    Ctrl-C is heeded between two steps, and whatever was done by then is kept.

    Raises:
        BadOption, UnsupportedModel: see `check_settings`. BadTexts: see `read_texts`. CannotWrite: no room.
        BadRun: what was begun there is damaged.
    """
    check_settings(model, settings)
    began = clock()
    texts = _prepare(model, settings, folder, data, lambda: clock() - began, progress)
    draw = Draw(texts.parted()[0], settings.batch, settings.seed, model.device)
    plan = Plan(
        features=settings.features,
        active=settings.active,
        activation=settings.activation,
        rate=RATE * math.sqrt(WIDTH / model.d_model),
    )
    half = partial(torch.autocast, model.device.type, torch.bfloat16, enabled=model.device.type == "cuda")
    training = Training(Whole(model), draw, plan, kind=settings.kind, seed=settings.seed, products=half)
    mark, before, numbers = 0, 0.0, {}
    if (folder / CHECKPOINT).is_file():
        state, notes = load_tensors(folder / CHECKPOINT)
        training.restore(state, notes["steps"])
        training.means.sums, training.means.counts = notes["sums"], notes["counts"]
        draw.drawn, draw.tokens = notes["drawn"], notes["tokens"]
        mark, before, numbers = notes["mark"], notes["seconds"], notes["numbers"]
    log = Log(folder / LOG, training.steps)

    def seconds() -> float:
        return before + clock() - began

    def save() -> float:
        """Returns the time at which the next is due."""
        start = time.monotonic()
        notes = {"steps": training.steps, "drawn": draw.drawn, "tokens": draw.tokens, "seconds": seconds()}
        notes |= {"mark": mark, "numbers": numbers, "sums": training.means.sums, "counts": training.means.counts}
        save_tensors(folder / CHECKPOINT, training.state(), notes)
        return time.monotonic() + max(SAVE_EVERY, SAVE_SHARE * (time.monotonic() - start))

    def share() -> float:
        done = training.steps / settings.steps if settings.steps else seconds() / (60 * (settings.minutes or 1))
        return min(done, 1.0)

    def tell() -> Numbers:
        found = _means(training, settings.features, draw.tokens, seconds())
        log.write(found)
        report(share(), found)
        return found

    due = time.monotonic() + SAVE_EVERY
    with _stopping() as asked:
        while not asked and (now := share()) < 1:
            listen = int(now * REPORTS) > mark
            training.step(now, listen=listen)
            if listen:
                mark, numbers = int(now * REPORTS), tell()
            if time.monotonic() > due:
                due = save()
        if training.means.counts and not asked:
            numbers = tell()
        save()
    if asked:
        signal.raise_signal(asked[0])  # heeded now, as it would have been at once
    return _finish(model, settings, folder, training, numbers, texts, progress)


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are noted, not heeded: a step that is half done could not be saved. A second one is heeded."""
    asked: list[int] = []

    def note(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():  # no other may ask for signals
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _means(training: Training, features: int, tokens: int, seconds: float) -> Numbers:
    """A line of the log: means since the last one, of all layers and of each."""
    means = training.means.take()
    layers = range(training.student.layers)
    fvu, l0 = ([means[f"{name} {layer}"] for layer in layers] for name in ("error", "active"))
    return {
        "step": training.steps,
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "fvu": fmean(fvu),
        "l0": fmean(l0),
        "dead": means["silent"] / (features * len(layers)),
        "kl": means.get("divergence", math.nan),
        **{f"fvu_{layer}": fvu[layer] for layer in layers},
        **{f"l0_{layer}": l0[layer] for layer in layers},
    }


# -- the beginning ----------------------------------------------------------------------------------------------------


def _prepare(
    model: Model, settings: Settings, folder: Path, data: str, spent: Callable[[], float], progress: Progress | None
) -> Texts:
    """The texts of the training in a folder, which is begun if there is none."""
    if (folder / RUN).is_file():
        tensors, _ = load_tensors(folder / TEXTS)
        return Texts(tensors["tokens"], tensors["length"])
    _check_room(model, settings, folder)
    if settings.data == SELF:
        rows = math.ceil(settings.steps * settings.batch / REPEATED) if settings.steps else MANY
        most = SAYING * 60 * (settings.minutes or math.inf)
        texts = say_texts(
            model, rows=max(rows, FEWEST), seed=settings.seed, enough=lambda: spent() > most, progress=progress
        )
    else:
        texts = read_texts(model, Path(data), progress=progress)
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise CannotWrite(f"the folder {folder} cannot be made: {reason.strerror}. Choose another.") from reason
    save_tensors(folder / TEXTS, {"tokens": texts.tokens.int(), "length": texts.length}, {})
    save_json(folder / RUN, settings.parts)  # last: from now on there is something to go on with
    return texts


def _check_room(model: Model, settings: Settings, folder: Path) -> None:
    layers, width = model.layers, model.d_model
    decoders = layers * (layers + 1) // 2 if settings.kind == "clt" else layers
    numbers = settings.features * (layers * (width + 2) + decoders * width)
    numbers += layers * width * width if settings.kind == "skip" else 0
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    wanted, free = ROOM * 4 * numbers, shutil.disk_usage(there).free
    if free < wanted:
        raise CannotWrite(
            f"training into {folder} takes up to {size_in_words(wanted)} of disk, {size_in_words(free)} are free: make "
            "room, choose another place, or train fewer features."
        )


# -- the end ----------------------------------------------------------------------------------------------------------


def _finish(
    model: Model,
    settings: Settings,
    folder: Path,
    training: Training,
    numbers: Numbers,
    texts: Texts,
    progress: Progress | None,
) -> Outcome:
    """Write the set, measure what was written, and put the record in place of what was needed to go on."""
    _write_set(model, settings, folder, training)
    found = load(folder).to(model.device, model.dtype, whole=True)
    outcome = _measure(model, folder, found, training, texts.parted()[1], numbers)
    save_notes(make_notes(model, found, texts.spread(TOKENS), progress=progress), folder / NOTES)
    title = f"{settings.kind} of {settings.features:,} features a layer for {Path(model.name).name}"
    scene = compose_training(read_log(folder / LOG), across="tokens", names=CHARTS, title=title)
    replace_file(folder / PICTURE, lambda new: new.write_text(to_svg(scene), encoding="utf-8"))
    save_json(folder / RECORD, {"settings": settings.parts, "model_name": model.name, **outcome.to_json()})
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return outcome


def _write_set(model: Model, settings: Settings, folder: Path, training: Training) -> None:
    place = folder / WORK / "set"
    save = save_cross_layer if settings.kind == "clt" else save_per_layer
    try:
        save(training.trained(), place, model_name=model.name, writes="hook_mlp_out")
        readable = (place / "config.yaml").stat().st_mode  # safetensors lets nobody else read what it writes
        # The configuration last: without it nobody takes the folder for a whole set.
        for path in sorted(place.iterdir(), key=lambda path: path.name == "config.yaml"):
            path.chmod(readable)
            os.replace(path, folder / path.name)
    except (OSError, SafetensorError) as reason:
        raise CannotWrite(f"the set could not be written into {folder}: {reason}. {GO_ON}") from reason


@torch.no_grad()
def _measure(
    model: Model, folder: Path, found: Transcoders, training: Training, kept: Texts, numbers: Numbers
) -> Outcome:
    rows = [row[:length] for row, length in zip(kept.tokens.long().to(model.device), kept.length.tolist(), strict=True)]
    fit = measure(model, found, rows)
    teacher, trained = Whole(model), training.trained()
    total = 0.0
    for first in range(0, len(kept), TESTED_AT_ONCE):
        batch = batch_of(kept.take(slice(first, first + TESTED_AT_ONCE)), model.device)
        log_p = teacher.record(batch.tokens).log_p
        each = (log_p.exp() * (log_p - teacher.imitated(batch.tokens, trained))).sum(-1)
        total += float((each * batch.answer_weight).sum())
    return Outcome(
        folder=folder,
        fvu=fit.fvu,
        l0=fit.l0,
        dead=numbers["dead"],
        kl=total / fit.tokens,
        steps=training.steps,
        tokens=int(numbers["tokens"]),
        seconds=numbers["seconds"],
        tested=fit.tokens,
    )
