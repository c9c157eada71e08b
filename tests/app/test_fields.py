"""Fields of a method as options of the command line: what is read, and how it is refused."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from typing import Literal

import pytest

from selfstudy.app.commands.fit import COMMAND
from selfstudy.app.fields import config_from
from selfstudy.core.errors import UsageError
from selfstudy.core.index import METHODS


@dataclass(frozen=True, kw_only=True)
class Part:
    """Of the settings below."""

    only_new: bool = True
    """A switch that is on."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a method that is made up."""

    storage: Literal["dense", "topk"] = "dense"
    """A choice."""
    top: int = 10
    """A number."""
    keep: bool = False
    """A switch."""
    part: Part = field(default_factory=Part)
    """What has a switch of its own."""


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


@pytest.mark.parametrize(
    ("options", "keep", "new"),
    [
        (["--keep", "True", "--part.only-new", "False"], True, False),
        (["--keep", "--part.no-only-new"], True, False),
        (["--part.only-new", "--top", "3", "--keep"], True, True),
        (["--no-keep", "--part.only_new=False"], False, False),
    ],
)
def test_switches(options: list[str], keep: bool, new: bool) -> None:
    """Oracle: alone a switch is on, with no- before its name it is off; a value may be said as well."""
    found = config_from(Settings, None, options)
    assert (found.keep, found.part.only_new) == (keep, new)


def test_only_switches_can_be_turned_off() -> None:
    """Oracle: no- before the name of a number is an unknown option."""
    with pytest.raises(UsageError, match=r"Unknown option --no_top"):
        config_from(Settings, None, ["--no-top"])


def test_every_field_can_be_given() -> None:
    """Oracle: the options of `fit` itself: a field of one of their names would never reach its method."""
    parser = argparse.ArgumentParser()
    COMMAND.add_options(parser)
    own = {action.dest for action in parser._actions}
    for entry in METHODS.values():
        assert not own & {one.name for one in fields(entry.load())}, entry.slug
