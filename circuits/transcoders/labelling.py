"""The notes on a set's features put where they are found with it: counted over a file's texts or the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuits.errors import BadOption, UnfitTranscoders
from circuits.hub.published import shipped_transcoders
from circuits.model import Model
from circuits.progress import Progress
from circuits.texts import LENGTH, read_texts, say_texts
from circuits.transcoders.loading import load_transcoders
from circuits.transcoders.naming import read_name
from circuits.transcoders.notes import TOKENS, make_notes
from circuits.transcoders.saving import NOTES, save_notes
from circuits.transcoders.settings import SELF
from circuits.transcoders.transcoders import Transcoders


def place_of_labels(name: str, output: str | None) -> Path:
    """The file for the notes on a set: the one that is asked for, else in the set's own folder.

    Raises:
        BadOption: it is none of the two endings, or the set has no folder of the user's.
    """
    if output is not None:
        if not output.endswith((".json", ".json.gz")):
            raise BadOption(f"-o {output}: a file ending in .json or .json.gz is wanted.")
        return Path(output)
    folder = Path(read_name(name).plain)
    if name in shipped_transcoders() or not folder.is_dir():
        raise BadOption(
            f"{name} is no folder of yours: say where the labels are to go, -o labels.json. Beside a set's weights "
            "they are found when it is loaded."
        )
    return folder / NOTES


def write_labels(
    model: Model, name: str, path: Path, *, data: str, tokens: int | None, seed: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Count over texts, and write what was found; returns how many texts, tokens and features there were.

    name: of a set, as `load_transcoders` takes it. data: a file, or SELF. tokens: TOKENS where it is None.

    Raises:
        UnfitTranscoders: it is of neurons, or of several sets, or does not fit the model. BadTexts: see `read_texts`.
        CannotWrite: see `save_notes`.
    """
    found = load_transcoders(name, model, progress=progress)
    if not isinstance(found, Transcoders):
        raise UnfitTranscoders(
            f"{name} is not one set of transcoders: features are labelled a set at a time. Neurons, autoencoders and "
            "sets for attention have no labels here."
        )
    most = TOKENS if tokens is None else tokens
    if data == SELF:
        rows = -(-most // min(LENGTH, model.context))
        texts = say_texts(model, rows=max(rows, 2), seed=seed, enough=lambda: False, progress=progress)
    else:
        texts = read_texts(model, Path(data), progress=progress)
    texts = texts.spread(most)
    notes = make_notes(model, found, texts, progress=progress)
    save_notes(notes, path)
    silent = sum(not note["density"] for note in notes.values())
    return {"texts": len(texts), "tokens": texts.count, "features": len(notes), "silent": silent}
