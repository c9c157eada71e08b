from __future__ import annotations

import pytest

from selfstudy.core import errors


@pytest.mark.parametrize(
    ("kind", "base", "code"),
    [
        ("UsageError", "SelfstudyError", 2),
        ("DataError", "SelfstudyError", 3),
        ("MachineError", "SelfstudyError", 4),
        ("MissingExtra", "MachineError", 4),
        ("BudgetSpent", "SelfstudyError", 5),
        ("Stopped", "SelfstudyError", 130),
    ],
)
def test_exit_codes(kind, base, code):
    """Oracle: the table in the module's docstring."""
    assert getattr(errors, kind).exit_code == code
    assert issubclass(getattr(errors, kind), getattr(errors, base))
    assert errors.SelfstudyError.exit_code == 1


def test_missing_extra_names_the_command():
    """Oracle: the pip command that a reader can paste."""
    assert "pip install 'selfstudy[gym]'" in str(errors.MissingExtra("reasoning-gym", "gym"))


def test_nearest_takes_any_iterable():
    """Oracle: one close name is suggested, none lists all in order."""
    assert errors.nearest("brunch", (name for name in ["rounds", "branch"])) == "Did you mean 'branch'?"
    assert errors.nearest("q", iter(["b", "a"])) == "Known: a, b."
