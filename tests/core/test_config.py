from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.config import difference, flatten, from_dict, read_yaml, to_dict
from selfstudy.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Search:
    branch: int = 3
    exploration: float = 0.5
    mode: Literal["full", "simple"] = "full"


@dataclass(frozen=True, kw_only=True)
class Settings:
    rounds: int = 2
    learning_rate: float = 3e-4
    steps: int | None = None
    rank: float | None = None
    name: str = "x"
    quick: bool = False
    widths: tuple[int, ...] = (8, 8)
    pair: tuple[float, str] = (0.9, "a")
    level: Literal[1, 2] = 1
    either: int | str = 1
    file: Path = Path("data")
    anything: Any = None
    search: Search = field(default_factory=Search)
    second: Search | None = None


@dataclass(frozen=True, kw_only=True)
class Needy:
    epochs: int


floats = st.floats(allow_nan=False)
searches = st.builds(
    Search,
    branch=st.integers(),
    exploration=floats,
    mode=st.sampled_from(["full", "simple"]),
)
settings = st.builds(
    Settings,
    rounds=st.integers(),
    learning_rate=floats,
    steps=st.none() | st.integers(),
    rank=st.none() | floats,
    name=st.text(),
    quick=st.booleans(),
    widths=st.lists(st.integers()).map(tuple),
    pair=st.tuples(floats, st.text()),
    level=st.sampled_from([1, 2]),
    either=st.integers() | st.text(),
    file=st.sampled_from([Path("a/b"), Path("/c")]),
    anything=st.none() | st.integers() | st.lists(st.text()),
    search=searches,
    second=st.none() | searches,
)


@given(settings)
def test_round_trip_through_json(config):
    """Oracle: writing to JSON and reading back is the identity, and shows no difference."""
    written = json.loads(json.dumps(to_dict(config)))
    assert from_dict(Settings, written) == config
    assert difference(written, to_dict(config)) == ""


@given(settings, settings)
def test_difference_names_the_fields_that_differ(one, other):
    """Oracle: the leaves that compare unequal, nested ones by dotted name."""
    old, new = flatten(to_dict(one)), flatten(to_dict(other))
    changed = {name for name in {*old, *new} if (name in old, old.get(name)) != (name in new, new.get(name))}
    said = difference(to_dict(one), to_dict(other))
    assert bool(said) == bool(changed)
    assert all(f"{name} was " in said for name in changed)


def test_difference_of_absent_fields():
    """Oracle: lines by hand; a field that says "absent" is not an absent field."""
    assert difference({"a": 1}, {"a": 1, "b": {"c": None}}) == "b.c was absent, now None"
    assert difference({"a": "absent"}, {}) == "a was 'absent', now absent"
    assert difference({"a": (1, 2), "p": Path("x")}, {"a": [1, 2], "p": "x"}) == ""
    assert difference({"a": 1}, {"a": 2, "b": 3}) == "a was 1, now 2; b was absent, now 3"


def test_left_out_fields_keep_their_defaults():
    """Oracle: the dataclass built directly."""
    assert from_dict(Settings, {"search": {"branch": 5}}) == Settings(search=Search(branch=5))
    assert from_dict(Settings, {"learning-rate": 1}).learning_rate == 1.0
    assert type(from_dict(Settings, {"learning_rate": 1}).learning_rate) is float


def test_a_part_given_in_part_keeps_the_defaults_of_the_whole():
    """Oracle: `replace` on the whole's own default, which is not that of the part's class; two levels."""

    @dataclass(frozen=True, kw_only=True)
    class Outer:
        settings: Settings = field(default_factory=lambda: Settings(rounds=9, search=Search(branch=7)))

    own = Outer().settings
    assert from_dict(Outer, {"settings": {"name": "y"}}).settings == dataclasses.replace(own, name="y")
    given_deep = from_dict(Outer, {"settings": {"search": {"mode": "simple"}}}).settings
    assert given_deep == dataclasses.replace(own, search=Search(branch=7, mode="simple"))
    with pytest.raises(UsageError, match=r"settings\.search\.branhc"):
        from_dict(Outer, {"settings": {"search": {"branhc": 1}}})


def test_parts_may_be_given_as_objects():
    """Oracle: the object itself, as Python callers write it."""
    part = Search(branch=7)
    assert from_dict(Settings, {"search": part, "second": part}) == Settings(search=part, second=part)


def test_yaml_numbers():
    """Oracle: YAML 1.1 reads 3e-4 as text; it is a number all the same."""
    values = yaml.safe_load("learning_rate: 3e-4\nrank: 1e3\npair: [2e-1, b]\nwidths: [1, 2]\nsteps: null\n")
    assert values["learning_rate"] == "3e-4"
    read = from_dict(Settings, values)
    assert (read.learning_rate, read.rank, read.pair) == (3e-4, 1000.0, (0.2, "b"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"round": 1}, r"Unknown field 'round'\. Did you mean 'rounds'\?"),
        ({"search": {"brunch": 1}}, r"Unknown field 'search\.brunch'\. Did you mean 'branch'\?"),
        ({"second": {"brunch": 1}}, r"Unknown field 'second\.brunch'"),
        ({"search": 3}, "search needs named fields, not 3"),
        ({"rounds": "two"}, r"'rounds' needs int, not 'two' \(str\)"),
        ({"rounds": 2.0}, "'rounds' needs int"),
        ({"rounds": True}, "'rounds' needs int"),
        ({"quick": 1}, "'quick' needs bool"),
        ({"learning_rate": True}, "'learning_rate' needs float"),
        ({"learning_rate": "fast"}, "'learning_rate' needs float"),
        ({"learning_rate": 10**400}, "'learning_rate' needs float"),
        ({"learning_rate": None}, "'learning_rate' needs float"),
        ({"steps": "x"}, "'steps' needs int"),
        ({"search": {"mode": "ful"}}, r"'search\.mode' is 'ful'\. Did you mean 'full'"),
        ({"level": True}, "'level' is True"),
        ({"level": 3}, r"Known: 1, 2\."),
        ({"widths": 8}, "'widths' needs"),
        ({"widths": [8, "a"]}, "'widths' needs int"),
        ({"pair": [0.5]}, "'pair' needs 2 values"),
        ({"either": 0.5}, "'either' needs int"),
        ({"name": 5}, "'name' needs str"),
        ({"file": 5}, "'file' needs Path"),
        ([1], "Settings needs named fields"),
    ],
)
def test_refused(values, said):
    """Oracle: a message that names the field with its path, what is allowed and what was given."""
    with pytest.raises(UsageError, match=said):
        from_dict(Settings, values)


def test_a_field_without_default_is_asked_for():
    """Oracle: a message for users, not a TypeError."""
    with pytest.raises(UsageError, match="needs the field 'epochs'"):
        from_dict(Needy, {})
    assert from_dict(Needy, {"epochs": 3}) == Needy(epochs=3)


def test_to_dict_copies():
    """Oracle: changing the dictionary leaves the configuration alone."""
    config = Settings(anything=[1])
    to_dict(config)["anything"].append(2)
    assert config.anything == [1]
    assert dataclasses.asdict(config)["anything"] == [1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"a: [1", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"- 1\n", "must hold"),
        (b"", "must hold"),
        (b"a: !!python/object/apply:os.getpid []\n", "not YAML"),
    ],
)
def test_bad_configuration_files(tmp_path, content, said):
    """Oracle: each kind of bad file is a UsageError that names it."""
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_read_yaml(tmp_path):
    """Oracle: nested fields as a dictionary."""
    path = tmp_path / "config.yaml"
    path.write_text("rounds: 3\nsearch:\n  branch: 4\n")
    assert from_dict(Settings, read_yaml(path)) == Settings(rounds=3, search=Search(branch=4))
