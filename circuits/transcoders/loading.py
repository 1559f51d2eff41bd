"""From a name to a dictionary that fits the model: shipped, a folder, on the Hub, its own neurons, or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from circuits.errors import BadOption, NotFetched, UnfitTranscoders, UnknownTranscoders
from circuits.formats import IN_MEMORY, is_for_attention, load, load_attention
from circuits.formats.files import UNSTATED
from circuits.hub.fetching import fetch_transcoders, read_address
from circuits.hub.published import shipped_folder, shipped_transcoders
from circuits.model import Model
from circuits.progress import Progress
from circuits.spelling import did_you_mean
from circuits.transcoders.attention_autoencoders import AttentionAutoencoders
from circuits.transcoders.autoencoders import Autoencoders
from circuits.transcoders.base import Dictionary
from circuits.transcoders.fit import ATTENTION_READS, ATTENTION_WRITES, WRITES, check_fit, find_sites
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.mixed import Mixed, Part
from circuits.transcoders.naming import SetName, read_name, split_names
from circuits.transcoders.neurons import RULES, Neurons
from circuits.transcoders.stepped import SteppedTranscoders
from circuits.transcoders.transcoders import Transcoders
from circuits.transcoders.with_attention import AttentionSet, put_beside


def load_transcoders(
    name: str | Path, model: Model, *, force: bool = False, progress: Progress | None = None
) -> Dictionary:
    """The dictionary called `name`, on the model's device and in its dtype, measured on some text.

    name: "neurons" or "neurons/RULE" (see `Neurons`), a shipped set ("world", "world/cross-layer"), a folder in a
        published layout, or an address on the Hub: ORG/NAME, /FOLDER and @REVISION behind it where it needs them. What
        is in the Hub's cache is taken as it is, what is not is fetched: see `circuits.hub.fetching`.
        "SET+neurons" takes the model's own neurons in the layers that the set has not; "SET+SET" joins what lies in two
        places. Of a layer that several have, the first named is taken; "SET@L0-2,5" takes these layers alone.
        A set for attention (Lorsa, or autoencoders of what attention puts out) stands beside them, in the layers that
        it has: "SET+LORSA", "neurons+LORSA@L2".
        "@SITE" behind a name says where the set reads or writes, whatever its files say: mlp_input, mlp_normalised or
        residual_mid, mlp_output or mlp_raw; an autoencoder "@mlp_raw@mlp_raw"; a set for attention attention_input or
        attention_normalised, attention_output or attention_raw. "@RULE" is for autoencoders of MLP outputs, and the
        same as for neurons: how the MLP is made linear that they are read through.
    force: use it though it does not fit. progress: told the bytes that are fetched.

    A set of more than 2^29 numbers stays in its files; what is needed of it is read when it is needed.

    Raises:
        UnknownTranscoders: nothing by that name, or it cannot be fetched.
        DamagedTranscoders: a file is not what it should be.
        UnfitTranscoders: the set has other layers or another width than the model, stands in for no MLPs, or misses
            what they put out (see `check_fit`).
    """
    if not isinstance(model, Model):
        raise BadOption(f"transcoders are loaded for a model: give what `load_model` returns, found {model!r}.")
    if not isinstance(name, str | Path):
        raise UnknownTranscoders(f"transcoders are named by a shipped name, a folder or 'neurons', found {name!r}.")
    wanted = [read_name(each) for each in split_names(str(name))]
    found = [(_open(each, model, progress), each) for each in wanted]
    attention = [each for each, _ in found if isinstance(each, Lorsa) or _rebuilds_attention(each)]
    opened = [(each, said) for each, said in found if not isinstance(each, Lorsa) and not _rebuilds_attention(each)]
    _check_attention(attention, [each for each, _ in opened])
    _check_whole([each for each, _ in opened], model)
    made = [_finish(each, said, model, force) for each, said in opened]
    layers = [range(model.layers) if isinstance(each, Neurons) else each.of_layers for each, _ in opened]
    parts = [Part(each, numbers) for each, numbers in zip(made, layers, strict=True)]
    mlps = made[0] if len(made) == 1 else Mixed(parts)
    return put_beside(mlps, _finish_attention(attention[0], model, force)) if attention else mlps


def _open(wanted: SetName, model: Model, progress: Progress | None) -> Transcoders | Neurons | Lorsa:
    """What a name stands for, its large weights still in their files."""
    kind, _, rule = wanted.plain.partition("/")
    if kind == "neurons" and not Path(wanted.plain).is_dir():
        if wanted.said:
            raise BadOption(
                f"{wanted}: neurons are named neurons or neurons/RULE, one of {', '.join(RULES)}. They take the layers "
                "that the sets named before them have not: SET@L0-2+neurons."
            )
        return Neurons(model, rule=rule or RULES[0])
    folder = _folder(wanted.plain)
    # A graph keeps the name: whoever reads it may stand in another folder.
    local = folder is not None and wanted.plain not in shipped_transcoders()
    called = f"{os.path.abspath(wanted.plain)}{wanted.said}" if local else str(wanted)
    folder = folder or _fetched(wanted.plain, progress)
    if is_for_attention(folder):
        return _open_attention(folder, replace(wanted, plain=called.removesuffix(wanted.said)), model)
    found = load(folder)
    both = wanted.writes if _autoencodes(found) else None
    reads, writes = wanted.reads or both or found.reads, wanted.writes or found.writes
    found = replace(found, name=called, reads=reads, writes=writes)
    _check_kind(found, wanted.rule)
    _check_sizes(found, model)
    return found if wanted.layers is None else _only(found, wanted.layers)


def _finish(found: Transcoders | Neurons, wanted: SetName, model: Model, force: bool) -> Dictionary:
    """What was opened, in its place and measured."""
    if isinstance(found, Neurons):
        return found
    found = found.to(model.device, model.dtype, whole=found.size <= IN_MEMORY)
    if UNSTATED in (found.reads, found.writes):
        raise UnfitTranscoders(_unstated(found, model))
    # A set that is shipped with its model was measured when it was made: the model card says how it fits.
    shipped = wanted.plain in shipped_transcoders() and wanted.plain.partition("/")[0] == model.name and not wanted.said
    if not force and not shipped:
        check_fit(model, found)
    return Autoencoders(found, model, rule=wanted.rule or RULES[0]) if _autoencodes(found) else found


def _open_attention(folder: Path, wanted: SetName, model: Model) -> Lorsa:
    """A set for attention, its large weights still in their files where they are many."""
    found = load_attention(folder)
    if wanted.rule is not None:
        raise BadOption(
            f"{wanted}: @{wanted.rule} says how an MLP is made linear, and this set stands in for attention."
        )
    for site, allowed in ((wanted.reads, ATTENTION_READS), (wanted.writes, ATTENTION_WRITES)):
        if site is not None and site not in allowed:
            raise BadOption(f"{wanted}: a set for attention is at {', '.join(allowed)}, found {site}.")
    reads, writes = wanted.reads or found.reads, wanted.writes or found.writes
    found = replace(found, name=str(wanted), reads=reads, writes=writes)
    layers = 1 + max(found.numbers)
    if layers > model.layers or found.d_model != model.d_model:
        raise UnfitTranscoders(
            f"{model.name} has {model.layers} layers of width {model.d_model}, but {found.name} is for attention in "
            f"{layers} layers of width {found.d_model}: give the set made for this model."
        )
    lacking = sorted(set(wanted.layers or ()) - set(found.numbers))
    if lacking:
        raise UnfitTranscoders(
            f"{found.name}: it has no layer {', '.join(map(str, lacking))}, but {', '.join(map(str, found.numbers))}."
        )
    return found if wanted.layers is None else found.only(wanted.layers)


def _finish_attention(found: Transcoders | Neurons | Lorsa, model: Model, force: bool) -> AttentionSet:
    """A set for attention in its place, and measured."""
    assert not isinstance(found, Neurons)
    found = found.to(model.device, model.dtype, whole=found.size <= IN_MEMORY)
    if not force:
        check_fit(model, found)
    return found if isinstance(found, Lorsa) else AttentionAutoencoders(found)


def _rebuilds_attention(found: Transcoders | Neurons | Lorsa) -> bool:
    """Whether a set is of autoencoders of what attention puts out."""
    return isinstance(found, Transcoders) and found.reads == found.writes == "attention_output"


def _check_attention(
    attention: Sequence[Transcoders | Neurons | Lorsa], others: Sequence[Transcoders | Neurons]
) -> None:
    """See that attention is replaced once, and MLPs too."""
    if len(attention) > 1:
        names = " and ".join(each.name for each in attention)
        raise UnfitTranscoders(f"{names} both stand in for attention: give one of them.")
    if attention and not others:
        raise UnfitTranscoders(
            f"{attention[0].name} stands in for attention alone: name what stands in for the MLPs too, as in "
            f"neurons+{attention[0].name}."
        )


def _folder(name: str) -> Path | None:
    if name in shipped_transcoders():
        return shipped_folder(name)
    if not name:
        return None
    folder = Path(name)
    # transcoder_all/width_16k_l0_small: a part of a folder's name, one folder a layer.
    return folder if folder.is_dir() or any(folder.parent.glob(f"layer_*_{folder.name}")) else None


def _fetched(name: str, progress: Progress | None) -> Path:
    """The folder of a set on the Hub, in its cache on this machine."""
    wanted = (
        f"there are no transcoders {name!r}: give a shipped set ({', '.join(shipped_transcoders())}), a folder that "
        "holds a set, one on the Hub (`circuits transcoders` lists some), or 'neurons' for the model's own neurons."
        f"{did_you_mean(name, [*shipped_transcoders(), 'neurons'])}"
    )
    address = read_address(name)
    if address is None or "/" not in address.repository or os.path.exists(name):
        raise UnknownTranscoders(wanted)
    try:
        return fetch_transcoders(name, progress=progress).folder
    except NotFetched as reason:
        raise UnknownTranscoders(f"{wanted} On the Hub: {reason}") from reason


def _autoencodes(found: Transcoders) -> bool:
    """Whether a set rebuilds a tensor from itself."""
    return found.reads == found.writes != UNSTATED


def _only(found: Transcoders, layers: Sequence[int]) -> Transcoders:
    """These layers of a set."""
    if found.cross_layer:
        raise UnfitTranscoders(
            f"{found.name}: the features of a cross-layer set write to later layers too, so it is taken whole or not "
            "at all. Leave the layers out."
        )
    lacking = sorted(set(layers) - set(found.of_layers))
    if lacking:
        raise UnfitTranscoders(
            f"{found.name}: it has no layer {', '.join(map(str, lacking))}, but {', '.join(map(str, found.of_layers))}."
        )
    return found.only(layers)


def _check_kind(found: Transcoders, rule: str | None) -> None:
    if _autoencodes(found) and found.reads.startswith("residual"):
        raise UnfitTranscoders(
            f"{found.name} is an autoencoder of {found.reads}: the residual stream is what every layer before has "
            "written, and its features stand in for no one MLP. Give transcoders, autoencoders of MLP outputs, or "
            "'neurons'."
        )
    if _autoencodes(found) and found.writes not in (*WRITES, "attention_output"):
        raise UnfitTranscoders(
            f"{found.name} is an autoencoder of {found.reads}, which no MLP and no attention puts out. Give "
            "transcoders, autoencoders of MLP outputs or of attention outputs, or 'neurons'."
        )
    if rule is not None and (not _autoencodes(found) or _rebuilds_attention(found)):
        raise BadOption(
            f"{found.name}: @{rule} says how an MLP is made linear, which transcoders have no need of; autoencoders "
            f"have, and neurons (neurons/{rule})."
        )
    if isinstance(found, SteppedTranscoders):
        raise UnfitTranscoders(
            f"{found.name} can be read, but not traced: its features write a step besides a multiple of their "
            "activation, and a graph's edges are multiples. Give another set, or 'neurons'."
        )


def _check_sizes(found: Transcoders, model: Model) -> None:
    if model.family.mlp == "none" and not _rebuilds_attention(found):
        raise UnfitTranscoders(
            f"{model.name} is attention alone: there are no MLPs that {found.name} could stand in for. Give 'neurons': "
            "there are none, and tokens, heads and biases remain."
        )
    layers = 1 + max(found.of_layers)
    if layers > model.layers or found.d_model != model.d_model:
        wide = model.heads * model.blocks[0].W_O.shape[1]
        heads = " (that of its heads together: autoencoders of these are not read)" if found.d_model == wide else ""
        raise UnfitTranscoders(
            f"{model.name} has {model.layers} layers of width {model.d_model}, but {found.name} is for {layers} "
            f"layers of width {found.d_model}{heads}: give the set made for this model, or -t neurons."
        )


def _check_whole(opened: Sequence[Transcoders | Neurons], model: Model) -> None:
    """See that every layer of the model is some set's."""
    sets = [found for found in opened if not isinstance(found, Neurons)]
    held = sorted({number for found in sets for number in found.of_layers})
    missing = sorted(set(range(model.layers)) - set(held))
    if missing and len(sets) == len(opened):
        name = "+".join(found.name for found in sets)
        raise UnfitTranscoders(
            f"{name} holds layers {', '.join(map(str, held))}; {model.name} has {model.layers}: missing "
            f"{', '.join(map(str, missing))}. Fetch them, or give {name}+neurons: there the model's own neurons."
        )


@torch.no_grad()
def _unstated(found: Transcoders, model: Model) -> str:
    best = find_sites(model, found)[0]
    name = f"{found.name}@{best.reads}@{best.writes}"
    return (
        f"the files of {found.name} do not say which tensors it reads and writes. On {model.name} it fits best at "
        f"{best.reads} and {best.writes} ({best}): if that is right, give it as {name}."
    )
