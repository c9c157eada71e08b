"""Functions of the user by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.core.functions import user_function


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_the_current_directory_is_found(here: Path) -> None:
    """Oracle: the function itself; the path of imports is as it was."""
    (here / "own_oracle_once.py").write_text(
        "def told(texts):\n    return [text.upper() for text in texts]\n"
    )
    path = list(sys.path)
    assert user_function("own_oracle_once:told", "oracle")(["a"]) == ["A"]
    assert sys.path == path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:told", "oracle 'no_such_module:told' cannot be imported: there is no module"),
        ("own_oracle_twice:tld", "has no function 'tld'. Did you mean 'told'"),
        ("own_oracle_thrice:told", "raised ZeroDivisionError"),
        (":told", "not of the form module:function"),
    ],
)
def test_what_cannot_be_used_is_said(here: Path, name: str, words: str) -> None:
    """Oracle: one wrong name of each kind."""
    (here / "own_oracle_twice.py").write_text("def told(texts):\n    return texts\n")
    (here / "own_oracle_thrice.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match=words):
        user_function(name, "oracle")
