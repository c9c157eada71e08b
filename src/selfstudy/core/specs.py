"""Things by specification, `name?field=value&field=value`: the fields are those of a Python function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from selfstudy.core.errors import UsageError, nearest

_WORDS = {"true": True, "false": False}
_CONVERT: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": lambda text: _WORDS[text.lower()],
}
_ASKED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def make(what: str, name: str, query: str, target: str, *arguments: str) -> Any:
    """Call the function or class `target`, "module:name", with `arguments` and the fields of `query`.

    Args:
        what: "task" or "model", for messages.
        name: as the user wrote it.
        query: `field=value&field=value`; values may be percent-encoded.
        target: its keyword-only parameters (annotated int, float, bool or str) are the fields; one with
            `**fields` takes any other as text.
        arguments: positional ones.

    Raises:
        UsageError: an unknown field, one given twice, or a value of the wrong type.
    """
    module, _, function = target.partition(":")
    call = getattr(importlib.import_module(module), function)
    return call(*arguments, **_fields(what, name, query, call))


def _fields(what: str, name: str, query: str, call: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(call).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    values: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        field, equals, text = part.partition("=")
        field, text = unquote(field), unquote(text)
        if not equals:
            raise UsageError(f"The field {part!r} of {what} {name!r} needs a value, as in {part}=value.")
        if field not in known and not open_ended:
            raise UsageError(f"{what.capitalize()} {name!r} has no field {field!r}. {nearest(field, known)}")
        if field in values:
            raise UsageError(f"{what.capitalize()} {name!r} is given the field {field!r} twice.")
        kind = str(known[field].annotation).split(" ")[0] if field in known else "str"
        try:
            values[field] = _CONVERT[kind](text)
        except (ValueError, KeyError):
            raise UsageError(f"The field {field}={text} of {what} {name!r} must be {_ASKED[kind]}.") from None
    return values
