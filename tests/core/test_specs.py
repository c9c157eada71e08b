"""Things by specification: the fields of a function, by name and type."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.core.specs import make


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with two things to make."""
    module = ModuleType("shop")

    def cake(*layers: str, size: int = 1, sugar: float = 0.5, iced: bool = False, name: str = "plain"):
        return layers, size, sugar, iced, name

    def open_ended(**fields: str):
        return fields

    # As with `from __future__ import annotations`: types are text.
    cake.__annotations__ = {"size": "int", "sugar": "float", "iced": "bool", "name": "str | None"}
    module.cake, module.open_ended = cake, open_ended  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", module)


def test_fields_become_arguments_of_their_type() -> None:
    """Oracle: the function's own arguments."""
    query = "size=3&sugar=1e-3&iced=true&name=a%26b"
    assert make("cake", "x", query, "shop:cake", "top") == (("top",), 3, 1e-3, True, "a&b")
    assert make("cake", "x", "iced=False", "shop:cake")[3] is False
    assert make("cake", "x", "", "shop:cake") == ((), 1, 0.5, False, "plain")
    assert make("cake", "x", "anything=1", "shop:open_ended") == {"anything": "1"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sise=3", "Cake 'x' has no field 'sise'. Did you mean 'size'"),
        ("size=3&size=4", "is given the field 'size' twice"),
        ("size", "needs a value, as in size=value"),
        ("size=1.5", "size=1.5 of cake 'x' must be a whole number"),
        ("sugar=much", "must be a number"),
        ("iced=1", "must be true or false"),
    ],
)
def test_mistakes_are_named(query: str, said: str) -> None:
    """Oracle: the message names what was given and what is allowed."""
    with pytest.raises(UsageError, match=said):
        make("cake", "x", query, "shop:cake")
