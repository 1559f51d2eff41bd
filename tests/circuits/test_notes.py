"""Notes on units: counts that a slower count finds too, laws that hold among them, and effects that the model shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from circuits.errors import DamagedTranscoders
from circuits.formats import files
from circuits.formats.files import read_notes
from circuits.model import Model
from circuits.texts import Texts
from circuits.transcoders import firing
from circuits.transcoders.notes import AUDIBLE, EXAMPLES, LONGEST, SURE, WORDS, join_label, logits_of, make_notes
from circuits.transcoders.saving import NOTES, save_notes
from circuits.transcoders.transcoders import Transcoders
from graphs.errors import CannotWrite
from tests.circuits.worlds import dictionary_of, model_of, native_of

LINES = (
    "a red fox runs here",
    "blue dog sleeps there now",
    "a red fox runs here",  # again
    "a dog runs now a fox sleeps here a red dog runs there a blue fox",
    "fox fox fox fox",
    "now",
)


def texts_of(model: Model, lines=LINES) -> Texts:
    rows = [model.tokenize(line) for line in lines]
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int32)
    for at, row in enumerate(rows):
        tokens[at, : len(row)] = row
    return Texts(tokens, torch.tensor([len(row) for row in rows]))


def words_of(model: Model, line: str) -> list[str]:
    return model.texts(model.tokenize(line).tolist())


def set_of(model: Model, kind: str, **more) -> Transcoders:
    found = dictionary_of(model, kind, **more)
    assert isinstance(found, Transcoders)
    return found


def firings(model: Model, transcoders: Transcoders, name: str) -> list[tuple[str, int, float]]:
    """Where a unit fires: line, position, activation; each line run alone."""
    number, unit = map(int, name.split("/"))
    layer = transcoders.of_layers.index(number)
    found = []
    for line in LINES:
        _, seen = model.run(model.tokenize(line)[None], read=[(transcoders.reads, number)])
        amounts = transcoders.activations(layer, seen[(transcoders.reads, number)][0])[:, unit].tolist()
        found += [(line, at, a) for at, a in enumerate(amounts) if a and at >= transcoders.silent_positions]
    return found


@pytest.mark.parametrize("kind", ["per-layer", "cross-layer"])
@pytest.mark.parametrize("silent", [0, 1])
def test_counts_are_those_of_every_text_run_alone(kind: str, silent: int):
    model = model_of("llama")
    transcoders = set_of(model, kind, silent=silent)
    notes = make_notes(model, transcoders, texts_of(model))
    tokens = sum(len(model.tokenize(line)) - silent for line in LINES)
    alive = 0

    assert list(notes) == [f"{layer}/{unit}" for layer in range(model.layers) for unit in range(transcoders.units)]
    for name, note in notes.items():
        fired = firings(model, transcoders, name)
        assert note["density"] == pytest.approx(len(fired) / tokens, rel=1e-4)
        if not fired:
            assert set(note) == {"promotes", "suppresses", "density"}
            continue
        alive += 1
        most = max(amount for *_, amount in fired)
        counts, ends = note["histogram"]["counts"], note["histogram"]["edges"]
        assert note["act_max"] == pytest.approx(most, rel=6e-3) and ends == [0, note["act_max"]]
        # A law: every firing is in one bin; and the bins are those of a plain division.
        assert sum(counts) == len(fired) == pytest.approx(note["density"] * tokens, rel=1e-4)
        bins = [min(int(amount / most * len(counts)), len(counts) - 1) for *_, amount in fired]
        assert sum(abs(counts[k] - bins.count(k)) for k in range(len(counts))) <= 2  # one may lie on an edge
        assert {word for word in note["fires_on"]} <= {words_of(model, line)[at] for line, at, _ in fired}
    assert alive > 10


def test_examples_are_the_texts_in_which_a_unit_is_strongest_each_once_with_all_activations():
    model = model_of("llama")
    transcoders = set_of(model, "per-layer")
    for name, note in make_notes(model, transcoders, texts_of(model)).items():
        fired = firings(model, transcoders, name)
        best = {line: max(amount for other, _, amount in fired if other == line) for line, *_ in fired}
        strongest = sorted(best.values(), reverse=True)[:EXAMPLES]
        shown = note.get("examples", [])
        assert [each["activations"][each["peak"]] for each in shown] == pytest.approx(strongest, rel=6e-3)
        for each in shown:
            words = " ".join(word.strip() for word in each["tokens"])
            line = next(line for line in best if words in f"<bos> {line}")
            first = words_of(model, line).index(each["tokens"][0]) if words.startswith("<bos>") else None
            assert max(each["activations"]) == each["activations"][each["peak"]]
            if first == 0:
                amounts = {at: amount for other, at, amount in fired if other == line}
                expected = [amounts.get(at, 0.0) for at in range(len(each["tokens"]))]
                assert each["activations"] == pytest.approx(expected, rel=6e-3)


def test_a_long_text_is_shown_around_its_strongest_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(firing, "BEFORE", 2)
    monkeypatch.setattr(firing, "AFTER", 1)
    model = model_of("llama")
    notes = make_notes(model, set_of(model, "per-layer"), texts_of(model))
    sizes = [len(each["tokens"]) for note in notes.values() for each in note.get("examples", [])]
    assert max(sizes) == 4 and min(sizes) >= 2
    assert all(each["peak"] <= 2 for note in notes.values() for each in note.get("examples", []))
    for note in notes.values():  # no two are the same words
        shown = [tuple(each["tokens"]) for each in note.get("examples", [])]
        assert len(shown) == len(set(shown))


def test_how_many_texts_run_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    transcoders = set_of(model, "cross-layer")
    heard: list[tuple[str, int, int]] = []
    whole = make_notes(model, transcoders, texts_of(model), progress=lambda *told: heard.append(told))
    monkeypatch.setattr(firing, "AT_ONCE", 2 * 16 * 12)
    one = make_notes(model, transcoders, texts_of(model), progress=lambda *told: heard.append(told))

    assert one == whole
    assert heard[-1][1:] == (12, 12) and len(heard) > 4 and {name for name, *_ in heard} == {heard[0][0]}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "no-norms"])
@pytest.mark.filterwarnings("ignore:A forward hook edited")
def test_what_a_unit_promotes_is_what_the_model_says_more_of_when_it_is_added(family: str):
    model = native_of(family) if family == "no-norms" else model_of(family)
    # Of the last layer, whose writing nothing reads but the norm, which is held at what it divided by.
    transcoders = set_of(model, "per-layer")
    last, unit = model.layers - 1, torch.arange(transcoders.units)
    tokens = torch.tensor([[1, 2, 3, 5, 7]])
    norm = [site for site in model.scales() if site == ("final_scale", 0)]
    clean, seen = model.run(tokens, read=norm)
    divisor = float(seen[norm[0]][0, -1]) if norm else 1.0
    notes = make_notes(model, transcoders, Texts(tokens.int(), torch.tensor([5])))
    found = logits_of(model, transcoders, last, unit) / divisor
    for each, written in enumerate(transcoders.writing(last, unit, last)):
        edit = {("mlp_output", last): lambda out, written=written: out + written}
        edit |= {site: lambda _, held=seen[site]: held for site in norm}
        change = (model.run(tokens, edit=edit)[0] - clean)[0, -1]
        change -= change.mean()
        torch.testing.assert_close(found[each], change, rtol=1e-4, atol=1e-5)
        order = change.argsort(descending=True).tolist()
        assert notes[f"{last}/{each}"]["promotes"] == model.texts(order[:WORDS])
        assert notes[f"{last}/{each}"]["suppresses"] == model.texts(order[::-1][:WORDS])


def test_a_cross_layer_unit_promotes_with_all_that_it_writes():
    model = model_of("llama")
    transcoders = set_of(model, "cross-layer")
    alone = [replace(transcoders, W_dec=[each[:, k : k + 1] for each in transcoders.W_dec]) for k in range(2)]
    unit = torch.arange(4)
    parts = [logits_of(model, each, 1, unit) for each in alone]
    torch.testing.assert_close(logits_of(model, transcoders, 1, unit), parts[0] + parts[1])


def test_units_are_called_by_the_models_own_numbers_of_layers():
    model = model_of("llama")
    top = set_of(model, "per-layer").only([2])
    assert {name.partition("/")[0] for name in make_notes(model, top, texts_of(model))} == {"2"}


def test_a_unit_that_reads_one_word_and_writes_another_is_called_so():
    model = model_of("llama")
    texts = texts_of(model, ("blue dog sleeps there now", "a red fox runs here"))
    _, seen = model.run(texts.tokens.long(), read=[("mlp_input", 0)])
    x = seen[("mlp_input", 0)].flatten(0, 1)  # fewer places than it is wide: any of them can be told from the rest
    is_blue = (texts.tokens == model.token("blue")).flatten().to(x)
    reads = torch.linalg.lstsq(x, is_blue).solution
    toy = set_of(model, "per-layer", units=1).only([0])
    assert model.final_norm is not None
    writes = 1e4 * (model.W_U[:, model.token("dog")] - model.W_U.mean(-1)) / model.final_norm.gain
    toy = replace(
        toy,
        W_enc=[reads[None]],
        b_enc=[torch.tensor([-0.5], dtype=torch.float64)],
        threshold=[torch.zeros(1, dtype=torch.float64)],
        W_dec=[writes[None, None]],
    )
    note = make_notes(model, toy, texts)["0/0"]
    raised = logits_of(model, toy, 0, torch.tensor([0]))[0]

    assert note["fires_on"] == ["blue"] and note["promotes"][0] == model.texts([int(raised.argmax())])[0]
    assert note["label"].startswith('"blue"')


def test_a_label_tells_what_is_plain_of_what_a_unit_reads_and_of_what_it_says():
    model = model_of("llama")
    transcoders = set_of(model, "per-layer").only([2])
    assert model.final_norm is not None
    # Each raises one token alone, or another nearly as much, or three others a little less; by little or by a lot.
    alone = torch.linalg.pinv(model.W_U - model.W_U.mean(-1, keepdim=True)) / model.final_norm.gain
    beside = (0.9 * alone.roll(1, 0), 0.6 * (alone.roll(1, 0) + alone.roll(2, 0) + alone.roll(3, 0)), 0.0 * alone)
    written = torch.stack([alone[unit] + beside[unit % 3][unit] for unit in range(transcoders.units)])
    written *= torch.logspace(-1, 1, transcoders.units)[:, None]
    transcoders = replace(transcoders, W_dec=[written[:, None]])
    logits = logits_of(model, transcoders, 0, torch.arange(transcoders.units)).numpy()
    notes, told = make_notes(model, transcoders, texts_of(model)), []
    only_apart = False
    for unit, raised in enumerate(logits):
        strongest, heard = [], []
        for line in LINES:
            _, seen = model.run(model.tokenize(line)[None], read=[("mlp_input", 2), ("final_scale", 0)])
            amounts = transcoders.activations(0, seen[("mlp_input", 2)][0])[:, unit]
            amounts[: transcoders.silent_positions] = 0
            heard += (amounts / seen[("final_scale", 0)][0, :, 0])[amounts != 0].tolist()
            strongest.append((float(amounts.max()), words_of(model, line)[int(amounts.argmax())].strip()))
        if not heard:
            continue
        weight = {word: sum(a for a, each in set(strongest) if each == word) for _, word in sorted(strongest)[::-1]}
        words = sorted((word for word in weight if weight[word]), key=lambda word: -weight[word])
        sure = weight[words[0]] >= SURE * sum(weight.values())
        second, most = np.sort(raised)[-2:]
        high, apart = most >= 3 * raised.std(ddof=1), most >= 1.5 * second
        plain = high and apart
        loud = np.mean(heard) * most >= AUDIBLE
        says = f'say "{model.texts([int(raised.argmax())])[0].strip()}"' if plain and loud else ""

        note = notes[f"2/{unit}"]
        assert note["fires_on"] == words[:WORDS]
        assert note["label"] == join_label(f'"{words[0]}"' if sure else "/".join(words[:3]), says)
        told.append((bool(sure), bool(plain), bool(loud)))
        only_apart |= bool(apart and loud and not high)
    assert {(plain, loud) for _, plain, loud in told} == {(True, True), (True, False), (False, True), (False, False)}
    assert {sure for sure, *_ in told} == {True, False} and only_apart


def test_a_label_fits_into_a_picture():
    assert join_label('"fox"', 'say "dog"') == '"fox" → say "dog"'
    assert join_label("", 'say "dog"') == 'say "dog"' and join_label("fox", "") == "fox"
    assert all(len(join_label("fox " * n, 'say "dog"' * m)) <= LONGEST for n in range(12) for m in range(6))


def test_texts_to_count_over_are_spread_from_beginning_to_end():
    texts = Texts(torch.arange(100)[:, None].repeat(1, 8), torch.full((100,), 8))
    assert texts.spread(80).tokens[:, 0].tolist() == list(range(0, 100, 10))
    assert len(texts.spread(10**6)) == 100 and len(texts.spread(1)) == 1


# -- files ------------------------------------------------------------------------------------------------------------


def test_notes_come_back_as_they_were_and_what_somebody_wrote_goes_before_them(tmp_path: Path):
    notes = {"0/1": {"label": 'ä → "b"\n', "density": 0.25, "examples": []}, "0/2": {"density": 0}}
    for name in (NOTES, "labels.json"):
        save_notes(notes, tmp_path / name / name)
        assert read_notes(tmp_path / name) == notes
    assert json.loads((tmp_path / "labels.json" / "labels.json").read_text(encoding="utf-8")) == notes
    once = (tmp_path / NOTES / NOTES).read_bytes()
    save_notes(notes, tmp_path / NOTES / NOTES)
    assert (tmp_path / NOTES / NOTES).read_bytes() == once

    (tmp_path / NOTES / "labels.json").write_text('{"0/1": {"label": "texas"}, "1/0": {"label": "oil"}}')
    assert read_notes(tmp_path / NOTES) == {
        "0/1": {**notes["0/1"], "label": "texas"},
        "0/2": {"density": 0},
        "1/0": {"label": "oil"},
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no gzip", "Not a gzipped file"),
        (None, "ended before"),
        (b"{", "is no JSON"),
        (b"[1]", "should map"),
        (b'{"0/1": "texas"}', "should map"),
        (b'{"0/1": {"label": "' + b"x" * 2000 + b'"}}', "it holds more than"),
    ],
)
def test_notes_that_are_damaged_or_endless_are_told(
    content: bytes | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import gzip

    monkeypatch.setattr(files, "LABELS", 1000)
    path = tmp_path / NOTES
    path.write_bytes(content if content == b"no gzip" else gzip.compress(content or b"{}")[: None if content else -9])
    with pytest.raises(DamagedTranscoders, match=complaint):
        read_notes(tmp_path)


def test_a_place_that_takes_no_notes_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="could not be written"):
        save_notes({}, tmp_path / "file" / "labels.json")
