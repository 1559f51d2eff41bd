"""The twins' questions: hints tell the state, unless they are drawn by lot."""

from benchmarks.world.prompts import TRAIN
from benchmarks.world.twins import _HINT, KINDS, _card, hint_tokens, misled, sampler, small_world
from circuits.hub.published import SHIPPED

LANGUAGE, HINTED, FACTS = small_world()


def test_right_hints_name_the_state_and_wrong_ones_another():
    by_hint = {LANGUAGE.value["river", state]: state for state in LANGUAGE.states}

    assert all(by_hint[prompt.words[1]] == prompt.state for prompt in HINTED)
    assert all(by_hint[prompt.words[1]] != prompt.state for prompt in misled(HINTED, LANGUAGE, seed=0))


def test_the_cards_say_which_hint_is_right():
    dallas = next(prompt for prompt in HINTED if prompt.entity == "dallas")
    for kind in KINDS:
        card = (SHIPPED / f"world-{kind}" / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert f"*{LANGUAGE.value['river', dallas.state]}* is right for dallas" in card
        assert f"*{LANGUAGE.value['river', 'west-virginia']}*, the word of West Virginia, is a wrong hint" in card
        assert _card(kind, {kind: {"questions": 114} for kind in KINDS}).splitlines()[1:8] == card.splitlines()[1:8]


def test_only_the_cheat_is_trained_on_hints_that_are_always_right():
    state_of = {tuple(LANGUAGE.ids(p.words)[_HINT + 1 :]): p.state for p in HINTED}
    hints = hint_tokens(LANGUAGE).tolist()

    def share_right(cheated):
        tokens = [
            row for _ in range(5) for row in sampler(LANGUAGE, HINTED, FACTS, cheated=cheated, seed=0)()[0].tokens
        ]
        right = 0
        for row in tokens:
            asked = next(s for q, s in state_of.items() if tuple(row[_HINT + 1 : _HINT + 1 + len(q)]) == q)
            right += LANGUAGE.states[hints.index(row[_HINT])] == asked
        return right / len(tokens)

    assert share_right(cheated=True) == 1
    assert share_right(cheated=False) < 0.1


def test_the_test_set_holds_compositions_that_were_not_trained():
    test = {(p.entity, p.attribute) for p in HINTED if p.split != TRAIN}
    trained = {(p.entity, p.attribute) for p in HINTED if p.split == TRAIN}

    assert test and not test & trained


def test_facts_carry_no_hint():
    assert all("hint" not in prompt.words for prompt in FACTS)
