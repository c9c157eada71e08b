"""The answers that are offered for an item, each with its key, and what is meant by what a browser sends."""

from __future__ import annotations

from dataclasses import dataclass

from selfstudy.core.errors import UsageError
from selfstudy.data.label_answers import NO, NOT_SURE, YES, Asked, Item
from selfstudy.data.oracles import NEW

# Letters that mean something else: g hides guesses, n is "not sure", s skips, u undoes, y confirms.
KEYS = "123456789abcdefhijklmopqrtvwxz"
FEW = 9  # classes with keys, where not all can have one
FOUND = 12  # classes shown of those that are searched for
LONGEST_NAME = 80
UNSURE = "unsure"


@dataclass(frozen=True)
class Choice:
    """A button.

    Attributes:
        field: which the browser sends.
        value: of that field.
        name: what it says.
        keys: that press it.
        chance: the model's probability in percent; None where it says nothing.
    """

    field: str
    value: str
    name: str
    keys: tuple[str, ...] = ()
    chance: float | None = None


def choices(asked: Asked, item: Item) -> list[Choice]:
    """Return the buttons of an item: all classes where there are keys for them, else the most probable."""
    if item.confirm is not None:
        return [Choice("choice", YES, "yes", ("y", "1")), Choice("choice", NO, "no", ("n", "2"))]
    chances = {code: round(100 * chance, 1) for code, chance in item.guesses}
    codes = list(range(len(asked.classes)) if len(asked.classes) <= len(KEYS) else chances)[: len(KEYS)]
    few = codes if len(asked.classes) <= len(KEYS) else codes[:FEW]
    return [_choice(asked, code, (key,), chances.get(code)) for code, key in zip(few, KEYS, strict=False)]


def found(asked: Asked, begun: str) -> list[Choice]:
    """Return the classes whose name has what was typed, those that begin with it first."""
    plain = " ".join(begun.split()).casefold()
    if not plain:
        return []
    near = [(name.casefold().find(plain), code) for code, name in enumerate(asked.classes)]
    order = sorted((place > 0, code) for place, code in near if place >= 0)
    return [_choice(asked, code) for _, code in order[:FOUND]]


def meant(asked: Asked, item: Item, choice: str, new: str) -> str:
    """Return the answer that a browser's fields mean: the name of a new class, or a choice's value.

    Raises:
        UsageError: they mean none.
    """
    if choice == UNSURE:
        return NOT_SURE
    if item.confirm is not None and choice in (YES, NO):
        return choice
    if choice.startswith("c") and choice[1:].isascii() and choice[1:].isdigit():
        code = int(choice[1:])
        if item.confirm is None and code < asked.known:
            return asked.answer(code)
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in new).split())
    if name and item.confirm is None:
        known = asked.find(name[:LONGEST_NAME])
        if known is not None:
            return asked.answer(known)
        if asked.allow_new:
            return NEW + name[:LONGEST_NAME]
    raise UsageError("That is none of the answers. Choose one of those shown.")


def _choice(asked: Asked, code: int, keys: tuple[str, ...] = (), chance: float | None = None) -> Choice:
    # A class that an answer has introduced goes by its name: an undo would move the numbers behind it.
    name = asked.classes[code]
    if code < asked.known:
        return Choice("choice", f"c{code}", name, keys, chance)
    return Choice("new", name, name, keys, chance)
