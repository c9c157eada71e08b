"""Tasks by specification: `name?field=value&field=value`."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from urllib.parse import unquote

from selfstudy.core.errors import UsageError, nearest
from selfstudy.tasks.reasoning import ReasoningTask

# Name -> (module, function), and prefix -> (module, function, first arguments); what follows a prefix is the
# next argument. The functions' keyword-only parameters are the fields.
NAMES = {
    "chain100": ("selfstudy.tasks.chain", "chain100"),
    "gsm8k": ("selfstudy.tasks.word_problems", "gsm8k"),
    "math500": ("selfstudy.tasks.word_problems", "math500"),
    "mawps": ("selfstudy.tasks.word_problems", "mawps"),
    "svamp": ("selfstudy.tasks.word_problems", "svamp"),
}
PREFIXES: dict[str, tuple[str, ...]] = {
    "countdown-": ("selfstudy.tasks.countdown", "countdown"),
    "gym:": ("selfstudy.tasks.gym", "gym"),
    "mathematics:": ("selfstudy.tasks.mathematics", "mathematics"),
    "jsonl:": ("selfstudy.tasks.own_data", "table", "jsonl"),
    "csv:": ("selfstudy.tasks.own_data", "table", "csv"),
    "parquet:": ("selfstudy.tasks.own_data", "table", "parquet"),
    "hf:": ("selfstudy.tasks.own_data", "table", "hf"),
}
_CONVERT = {"int": int, "float": float, "str": str}


def task(spec: str) -> ReasoningTask:
    """Return the task that `spec` names.

    >>> task("chain100?steps=3&train=5&validation=0&test=5").max_steps
    3

    Args:
        spec: `chain100?steps=8&train=400`, `countdown-4`, `gym:chain_sum?size=500`, `gsm8k`,
            `jsonl:problems.jsonl?prompt=question&answer=answer&verifier=math`, ... Values may be
            percent-encoded.

    Raises:
        UsageError: an unknown name or field, or a value of the wrong type.
        DataError: data that cannot be used.
    """
    name, _, query = spec.partition("?")
    arguments: list[str] = []
    if name in NAMES:
        module, function = NAMES[name]
    else:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            known = [*NAMES, *(f"{prefix}..." for prefix in PREFIXES)]
            raise UsageError(f"Unknown task {name!r}. {_nearest_task(name, known)}")
        module, function, *first = PREFIXES[prefix]
        arguments = [*first, unquote(name[len(prefix) :])]
    make = getattr(importlib.import_module(module), function)
    return make(*arguments, **_fields(name, query, make))


def _nearest_task(name: str, known: list[str]) -> str:
    head = re.split(r"[:?]", name)[0]
    hint = nearest(head, [known_name.rstrip(".:-") for known_name in known])
    return hint if hint.startswith("Did") else nearest("", known)


def _fields(name: str, query: str, make: Callable[..., ReasoningTask]) -> dict[str, object]:
    parameters = inspect.signature(make).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    values: dict[str, object] = {}
    for part in filter(None, query.split("&")):
        field, equals, text = part.partition("=")
        field, text = unquote(field), unquote(text)
        if not equals:
            raise UsageError(f"The field {part!r} of task {name!r} needs a value, as in {part}=value.")
        if field not in known and not open_ended:
            raise UsageError(f"Task {name!r} has no field {field!r}. {nearest(field, known)}")
        if field in values:
            raise UsageError(f"Task {name!r} is given the field {field!r} twice.")
        kind = str(known[field].annotation).split(" ")[0] if field in known else "str"
        try:
            values[field] = _CONVERT[kind](text)
        except ValueError:
            raise UsageError(
                f"The field {field}={text} of task {name!r} must be a {'whole ' * (kind == 'int')}number."
            ) from None
    return values
