"""Plain data as bytes, and messages through file descriptors; for the host and for what runs in a sandbox.

Plain data are None, bool, int of any size, float, complex, str, bytes, list, tuple, dict, set and frozenset
of plain data. What is decoded is exactly of these types, whatever was encoded: a class of the judged code
never arrives. Only builtins are used, since sandboxes run this file too, and are to start fast.

A value is a letter, then its text up to ";", or its length up to ":" and its parts.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # that of `typing`, whose import takes longer than the start of a sandbox
if TYPE_CHECKING:
    from typing import Any

DEEPEST = 100
"""Levels of nesting; also what ends cyclic data."""
HEADER = 4
"""Bytes before a message that tell its length."""

_SEQUENCES: tuple[tuple[Any, bytes], ...] = ((list, b"l"), (tuple, b"t"), (set, b"S"), (frozenset, b"Z"))


class NotPlain(TypeError):
    """A value that is not plain data."""


class Ended(Exception):
    """The other side has ended, or does not keep to the format."""


def encode(value: object) -> bytes:
    """Return plain data as bytes. Instances of subclasses go over as their plain base: a Counter as a dict.

    Raises:
        NotPlain: the value, or a part of it, is something else, or is nested more than DEEPEST levels.
    """
    parts: list[bytes] = []
    _encode(value, parts, 0)
    return b"".join(parts)


def _encode(value: object, parts: list[bytes], depth: int) -> None:
    if depth > DEEPEST:
        raise NotPlain(f"data nested more than {DEEPEST} levels deep")
    if value is None or value is True or value is False:
        parts.append({None: b"N", True: b"T", False: b"F"}[value])
    elif isinstance(value, int):
        parts.append(b"i%x;" % value)
    elif isinstance(value, float):
        parts.append(b"f%s;" % float.hex(value).encode())
    elif isinstance(value, complex):
        parts.append(b"c%s,%s;" % (value.real.hex().encode(), value.imag.hex().encode()))
    elif isinstance(value, str):
        text = str.encode(value, "utf-8", "surrogatepass")
        parts.append(b"s%d:%s" % (len(text), text))
    elif isinstance(value, bytes):
        parts.append(b"b%d:%s" % (len(value), value))
    elif isinstance(value, dict):
        parts.append(b"d%d:" % len(value))
        for key, one in dict.items(value):
            _encode(key, parts, depth + 1)
            _encode(one, parts, depth + 1)
    else:
        _encode_sequence(value, parts, depth)


def _encode_sequence(value: object, parts: list[bytes], depth: int) -> None:
    for kind, letter in _SEQUENCES:
        if isinstance(value, kind):
            items = list(kind.__iter__(value))
            parts.append(b"%s%d:" % (letter, len(items)))
            for one in items:
                _encode(one, parts, depth + 1)
            return
    raise NotPlain(f"{type(value).__name__!r} is not plain data")


def decode(data: bytes) -> Any:
    """Return the value that `data` encodes.

    Raises:
        ValueError: bytes that `encode` does not write.
    """
    try:
        value, end = _decode(data, 0, 0)
    except (IndexError, TypeError, KeyError) as error:
        raise ValueError("damaged data") from error
    if end != len(data):
        raise ValueError("data after the end")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[object, int]:
    if depth > DEEPEST:
        raise ValueError("data nested too deeply")
    letter = data[at : at + 1]
    if letter in (b"N", b"T", b"F"):
        return {b"N": None, b"T": True, b"F": False}[letter], at + 1
    if letter in (b"i", b"f", b"c"):
        end = data.index(b";", at)
        return _NUMBERS[letter](data[at + 1 : end].decode("ascii")), end + 1
    end = data.index(b":", at)
    length, start = int(data[at + 1 : end]), end + 1
    if length < 0 or length > len(data) - start:
        raise ValueError("a length beyond the end")
    if letter in (b"s", b"b"):
        text = data[start : start + length]
        return (text.decode("utf-8", "surrogatepass") if letter == b"s" else text), start + length
    items, end = _decode_items(data, start, 2 * length if letter == b"d" else length, depth + 1)
    if letter == b"d":
        return dict(zip(items[::2], items[1::2], strict=True)), end
    return _MAKERS[letter](items), end


def _decode_items(data: bytes, at: int, count: int, depth: int) -> tuple[list, int]:
    items = []
    for _ in range(count):
        value, at = _decode(data, at, depth)
        items.append(value)
    return items, at


def _complex(text: str) -> complex:
    real, imaginary = text.split(",")
    return complex(float.fromhex(real), float.fromhex(imaginary))


_NUMBERS = {b"i": lambda text: int(text, 16), b"f": float.fromhex, b"c": _complex}
_MAKERS: dict[bytes, Any] = {letter: kind for kind, letter in _SEQUENCES}


def send(descriptor: int, message: bytes) -> None:
    """Write one message, whole.

    Raises:
        Ended: nobody reads any more.
    """
    rest = memoryview(len(message).to_bytes(HEADER, "big") + message)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise Ended from error


def receive(descriptor: int, most: int) -> bytes:
    """Read one message of at most `most` bytes.

    Raises:
        Ended: the other side has ended, or sends more.
    """
    size = int.from_bytes(_read(descriptor, HEADER), "big")
    if size > most:
        raise Ended(f"a message of {size} bytes")
    return _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(descriptor, min(size, 2**20))
        except OSError as error:
            raise Ended from error
        if not part:
            raise Ended
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
