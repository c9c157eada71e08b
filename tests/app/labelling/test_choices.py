"""The answers that are offered, and what a browser's fields mean."""

from __future__ import annotations

import pytest

from selfstudy.app.labelling.choices import FEW, KEYS, UNSURE, choices, found, meant
from selfstudy.core.errors import UsageError
from selfstudy.data.label_answers import Asked, Item
from selfstudy.data.oracles import NEW


def asked(*classes: str, known: int | None = None, allow_new: bool = False) -> Asked:
    count = len(classes) if known is None else known
    return Asked(1, "q", classes, known=count, allow_new=allow_new, items=1, done=0)


ITEM, CONFIRM = Item(1, 0, ((1, 0.75), (0, 0.25)), None), Item(1, 0, (), "ham")


def test_every_class_has_a_key_of_its_own() -> None:
    """Oracle: no key twice, and none that means something else; chances in percent."""
    assert len(set(KEYS)) == len(KEYS) and not set(KEYS) & set("0gnsuy/")
    few = choices(asked("a", "b"), ITEM)
    assert [(one.name, one.keys, one.chance) for one in few] == [("a", ("1",), 25.0), ("b", ("2",), 75.0)]
    names = tuple(f"class {n}" for n in range(len(KEYS)))
    assert [one.keys[0] for one in choices(asked(*names), ITEM)] == list(KEYS)


def test_of_many_classes_the_most_probable_have_keys() -> None:
    """Oracle: the order of the guesses."""
    guesses = tuple((code, 1 / (2 + at)) for at, code in enumerate(range(30, 50)))
    many = choices(asked(*map(str, range(1000))), Item(1, 0, guesses, None))
    assert [one.name for one in many] == [str(code) for code in range(30, 30 + FEW)]


def test_names_are_found_by_a_part() -> None:
    """Oracle: names by hand; those that begin with it come first."""
    names = asked("card lost", "Lost PIN", "top up", "lost")
    assert [one.name for one in found(names, " LOST ")] == ["Lost PIN", "lost", "card lost"]
    assert found(names, "") == found(names, "zz") == []


@pytest.mark.parametrize(
    ("fields", "answer"),
    [(("c1", ""), "b"), ((UNSURE, ""), ""), (("", " B "), "b"), (("", "b"), "b"), (("", "new"), NEW + "new")],
)
def test_what_fields_mean(fields: tuple[str, str], answer: str) -> None:
    """Oracle: answers by hand; a known name in other letters is the known class."""
    assert meant(asked("a", "b", known=2, allow_new=True), ITEM, *fields) == answer


def test_a_class_that_was_introduced_goes_by_its_name() -> None:
    """Oracle: the fields; its number alone could be another class's after an undo."""
    names = asked("a", "fresh", known=1, allow_new=True)
    button = choices(names, ITEM)[1]
    assert (button.field, button.value) == ("new", "fresh")
    assert meant(names, ITEM, "", "fresh") == NEW + "fresh"
    with pytest.raises(UsageError):
        meant(names, ITEM, "c1", "")


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        (ITEM, ("c2", "")),
        (ITEM, ("c-1", "")),
        (ITEM, ("c\N{ARABIC-INDIC DIGIT ONE}", "")),
        (ITEM, ("", "unheard")),
        (ITEM, ("", " \t\x00")),
        (ITEM, ("yes", "")),
        (CONFIRM, ("c0", "")),
        (CONFIRM, ("", "ham")),
    ],
)
def test_anything_else_is_refused(item: Item, fields: tuple[str, str]) -> None:
    """Oracle: an error, and no answer."""
    with pytest.raises(UsageError, match="none of the answers"):
        meant(asked("ham", "spam"), item, *fields)
    assert meant(asked("ham", "spam"), CONFIRM, "yes", "") == "yes"
