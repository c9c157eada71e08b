"""Fields of a method, or of other settings, on the command line: YAML first, then options, read by tyro."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfstudy.core.config import Config, flatten, from_dict, read_yaml, to_dict
from selfstudy.core.errors import UsageError, nearest


def config_from(cls: type[Config], config: Path | None, options: Sequence[str]) -> Config:
    """Return the dataclass `cls` with the fields of the file `config`, overridden by `options`.

    Options look like `--search.branch 3`; a switch stands alone, `--value`, or is turned off, `--no-value`.

    Raises:
        UsageError: an unknown field (with the nearest name), or a value of the wrong type.
    """
    default = from_dict(cls, read_yaml(config)) if config else cls()
    if not options:
        return default
    options = _with_switches(default, options)
    _refuse_unknown(default, options)
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return tyro.cli(
                cls,
                args=options,
                default=default,
                add_help=False,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
            )
    except SystemExit:
        raise UsageError(_one_paragraph(said.getvalue())) from None


def field_names(config: Any) -> list[str]:
    """Return the dotted names of all fields, nested ones included."""
    return list(flatten(to_dict(config)))


def _with_switches(default: Any, options: Sequence[str]) -> list[str]:
    """Return options in which each switch has its value: --x alone is --x True, and --no-x is --x False."""
    switches = {name for name, value in flatten(to_dict(default)).items() if isinstance(value, bool)}
    spelt: list[str] = []
    for option, following in itertools.pairwise([*options, "--"]):
        path, dot, last = option.removeprefix("--").replace("-", "_").rpartition(".")
        off = path + dot + last.removeprefix("no_")
        if not option.startswith("--") or not following.startswith("--"):
            spelt.append(option)
        elif path + dot + last in switches:
            spelt += [option, "True"]
        elif off in switches:
            spelt += [f"--{off}", "False"]
        else:
            spelt.append(option)
    return spelt


def _refuse_unknown(default: Any, options: Sequence[str]) -> None:
    """Check names before tyro does, for one clear message with the nearest name."""
    known = field_names(default)
    expects_value = False
    for option in options:
        if not option.startswith("--"):
            if not expects_value:
                raise UsageError(f"{option!r} belongs to no option. Options look like --{known[0]} VALUE.")
            continue
        name = option[2:].partition("=")[0].replace("-", "_")
        if name not in known:
            hint = nearest(name, known).replace("'", "'--", 1) if known else "It has no fields."
            raise UsageError(f"Unknown option --{name} of {type(default).__name__}. {hint}")
        expects_value = True


def _one_paragraph(text: str) -> str:
    """Take the frame and its title off tyro's message."""
    words = re.sub(r"[│╭╮╰╯─]+|-{3,}", " ", text).split()
    message = re.sub(r"^(Parsing error|Invalid choice) ?", "", " ".join(words))
    message = message.split(" For full helptext")[0].rstrip(".")
    return f"The options cannot be read: {message or 'a value is missing'}."


@dataclasses.dataclass(frozen=True)
class FieldHelp:
    """One hyper-parameter as a person reads it."""

    name: str
    kind: str
    default: Any
    text: str


def described_fields(config: Any, prefix: str = "") -> list[FieldHelp]:
    """Return the fields of a dataclass instance, nested ones by dotted name, with the text under each."""
    texts = _texts(type(config))
    rows: list[FieldHelp] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            rows += described_fields(value, f"{prefix}{field.name}.")
        else:
            kind = (
                field.type
                if isinstance(field.type, str)
                else getattr(field.type, "__name__", str(field.type))
            )
            rows.append(FieldHelp(prefix + field.name, kind, value, texts.get(field.name, "")))
    return rows


def _texts(cls: type) -> dict[str, str]:
    """Read the string literals under the fields from the source of the class."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return {}
    statements = getattr(body, "body", [])
    found = {}
    for field, text in itertools.pairwise(statements):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            found[field.target.id] = " ".join(str(getattr(text.value, "value", "")).split())
    return found
