"""What `circuits trace` takes for a prompt: turns of a chat, and token ids."""

import json
import shutil
from pathlib import Path

import pytest

from circuits.__main__ import main
from circuits.hub.published import SHIPPED
from graphs.store import Store

TURNS = [
    {"role": "user", "content": "the capital of"},
    {"role": "assistant", "content": "dallas is"},
    {"role": "user", "content": "the state"},
]
# Two numbers stand for the roles, a mark ends an answer.
ASKED = "<bos> 00 the capital of 01 dallas is <pad> 00 the state 01"


@pytest.fixture
def chatting(tmp_path: Path) -> Path:
    """The shipped model with a chat template."""
    folder = tmp_path / "chatting"
    shutil.copytree(SHIPPED / "world" / "model", folder)
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for turn in messages %} {{ '00' if turn['role'] == 'user' else '01' }} {{ turn['content'] }}"
        "{% if turn['role'] != 'user' %} <pad>{% endif %}{% endfor %}{% if add_generation_prompt %} 01{% endif %}"
    )
    return folder


def trace(prompt: str, model: Path, store: Path, *words: str) -> int:
    few = ("-t", "neurons", "--no-assay", "--max-features", "20", "--device", "cpu", "--quiet")
    return main(["trace", prompt, "-m", str(model), "--store", str(store), *few, *words])


def test_roles_and_marks_of_a_chat_are_tokens_of_the_graph_and_shown(
    chatting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store = tmp_path / "store"
    assert trace(json.dumps(TURNS), chatting, store, "--chat") == 0
    (entry,) = Store(store).list()
    graph = Store(store).load(entry.id)
    assert " ".join(token.strip() for token in graph.tokens) == ASKED
    capsys.readouterr()
    assert main(["show", entry.id, "--store", str(store)]) == 0
    assert f"tokens: {ASKED}\n" in capsys.readouterr().out

    # The same as ids, taken as they are.
    ids = tmp_path / "ids"
    assert trace(" ".join(map(str, graph.token_ids)), chatting, ids, "--ids") == 0
    (again,) = Store(ids).list()
    assert Store(ids).load(again.id).token_ids == graph.token_ids
    assert Store(ids).load(again.id).weight.tolist() == graph.weight.tolist()


def test_a_chat_without_a_template_and_an_id_beyond_the_vocabulary_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = SHIPPED / "world" / "model"
    assert trace("the capital", model, tmp_path, "--chat") == 2
    assert "has no chat template" in capsys.readouterr().err
    assert trace("1 99999", model, tmp_path, "--ids") == 2
    assert "run from 0 to 844, found 99999" in capsys.readouterr().err
