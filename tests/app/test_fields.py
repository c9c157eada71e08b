"""Fields of a method as options of the command line: what is read, and how it is refused."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import Literal

import pytest

from selfstudy.app.commands.fit import COMMAND
from selfstudy.app.fields import config_from
from selfstudy.core.errors import UsageError
from selfstudy.core.index import METHODS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a method that is made up."""

    storage: Literal["dense", "topk"] = "dense"
    """A choice."""
    top: int = 10
    """A number."""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--storage", "sparse"], r"read: invalid choice 'sparse' for argument '--storage'.*'topk'\)\.$"),
        (["--top", "many"], r"read: .*--top.*many.*[^.]\.$"),
        (["--top"], r"read: .*--top.*[^.]\.$"),
        (["--tops", "3"], r"Unknown option --tops of Settings\. .*--top"),
    ],
)
def test_options_that_cannot_be_read(options: list[str], words: str) -> None:
    """Oracle: one sentence without a frame, without its title, with one full stop; the option is named."""
    with pytest.raises(UsageError, match=words):
        config_from(Settings, None, options)
    assert config_from(Settings, None, ["--storage", "topk", "--top", "3"]) == Settings(storage="topk", top=3)


def test_every_field_can_be_given() -> None:
    """Oracle: the options of `fit` itself: a field of one of their names would never reach its method."""
    parser = argparse.ArgumentParser()
    COMMAND.add_options(parser)
    own = {action.dest for action in parser._actions}
    for entry in METHODS.values():
        assert not own & {field.name for field in fields(entry.load())}, entry.slug
