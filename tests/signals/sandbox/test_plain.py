from __future__ import annotations

import collections
import enum
import math
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.signals.sandbox.plain import DEEPEST, Ended, NotPlain, decode, encode, receive, send

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
PLAIN = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=3),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, at every level."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(PLAIN)
def test_plain_data_come_back(value: Any) -> None:
    """Oracle: the value itself, with its types."""
    assert same(decode(encode(value)), value)


def test_special_numbers_come_back() -> None:
    """Oracle: the properties that IEEE 754 gives them."""
    assert math.isnan(decode(encode(math.nan))) and decode(encode(-math.inf)) == -math.inf
    assert math.copysign(1, decode(encode(-0.0))) == -1
    assert decode(encode(-(7**10**5))) == -(7**10**5)
    assert decode(encode("half \udc80")) == "half \udc80"


class Level(enum.IntEnum):
    LOW = 1


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "value",
    [
        Level.LOW,
        Liar(3),
        collections.Counter("aab"),
        collections.namedtuple("P", "x")(1),
        type("S", (str,), {})("s"),
    ],
    ids=str,
)
def test_subclasses_arrive_as_their_base(value: Any) -> None:
    """Oracle: the class, of which only the plain one may arrive."""
    assert type(decode(encode(value))) in (int, dict, tuple, str)


@pytest.mark.parametrize(
    "value",
    [object(), len, range(3), iter([]), bytearray(b"x"), {1: object()}],
    ids=["object", "len", "range", "iterator", "bytearray", "dict"],
)
def test_other_data_are_refused(value: Any) -> None:
    """Oracle: the list of plain types."""
    with pytest.raises(NotPlain):
        encode(value)


def test_depth_is_limited_on_both_sides() -> None:
    """Oracle: the number of levels."""
    nested: Any = 0
    for _ in range(DEEPEST):
        nested = [nested]
    assert decode(encode(nested)) == nested
    with pytest.raises(NotPlain):
        encode([nested])
    with pytest.raises(ValueError):
        decode(b"l1:" * 10**6 + b"N")


@given(st.binary(max_size=40))
def test_foreign_bytes_are_a_value_or_an_error(data: bytes) -> None:
    """Oracle: plain types, or ValueError, whatever the bytes."""
    try:
        value = decode(data)
    except ValueError:
        return
    encode(value)


@given(PLAIN, st.data())
def test_damaged_bytes_are_a_value_or_an_error(value: Any, data: st.DataObject) -> None:
    """Oracle: as above, for bytes that are almost right."""
    whole = encode(value)
    at = data.draw(st.integers(0, len(whole) - 1))
    test_foreign_bytes_are_a_value_or_an_error.hypothesis.inner_test(  # type: ignore[attr-defined]
        whole[:at] + data.draw(st.binary(max_size=2)) + whole[at + 1 :]
    )


@pytest.mark.parametrize("data", [b"", b"i", b"S1:l0:", b"d1:l0:N", b"l9:N", b"s9:a", b"NN", b"s-1:", b"x1:"])
def test_bytes_that_are_no_value(data: bytes) -> None:
    """Oracle: the format."""
    with pytest.raises(ValueError):
        decode(data)


def test_messages_go_through_a_pipe() -> None:
    """Oracle: the message; a closed end and a message over the limit are the end."""
    read, write = os.pipe()
    send(write, b"one")
    send(write, b"")
    assert (receive(read, 3), receive(read, 3)) == (b"one", b"")
    send(write, b"four")
    with pytest.raises(Ended):
        receive(read, 3)
    os.close(write)
    with pytest.raises(Ended):
        receive(read, 10)
        receive(read, 10)
    os.close(read)
