"""Configuration: a frozen dataclass is the defaults, the help, the YAML file and the saved record at once."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from selfstudy.core.errors import UsageError, nearest

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as JSON data: nested dataclasses as dictionaries, tuples as lists."""
    return _jsonable(dataclasses.asdict(config))


def from_dict(
    cls: type[Config], values: dict[str, Any], where: str = "", *, default: Config | None = None
) -> Config:
    """Build the dataclass `cls` from JSON or YAML data; fields that are left out keep their defaults.

    Args:
        cls: the dataclass.
        values: by field; nested dataclasses as dictionaries, which may be given in part too.
        where: names the field that `cls` is nested in, for messages.
        default: gives the fields that are left out, in place of the defaults of `cls`.

    Raises:
        UsageError: an unknown field (with the nearest name) or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise UsageError(f"{where or cls.__name__} needs named fields, not {values!r}.")
    hints = typing.get_type_hints(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    names = [field.name for field in fields]
    arguments = {}
    for name, value in values.items():
        field = str(name).replace("-", "_")
        path = f"{where}.{field}" if where else field
        if field not in names:
            raise UsageError(f"Unknown field {path!r}. {nearest(field, names)}")
        if dataclasses.is_dataclass(hints[field]) and isinstance(value, dict):
            kind = typing.cast(type, hints[field])
            arguments[field] = from_dict(kind, value, path, default=_default(cls, field, default))
        else:
            arguments[field] = _convert(hints[field], value, path)
    if default is not None:
        return dataclasses.replace(default, **arguments)  # type: ignore[type-var]
    for needed in fields:
        if needed.name not in arguments and needed.default is needed.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where or cls.__name__} needs the field {needed.name!r}.")
    return cls(**arguments)


def _default(cls: type, name: str, instance: Any) -> Any:
    """Return the default of a field: that of `instance`, else that of its class; None where there is none."""
    if instance is not None:
        return getattr(instance, name)
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        UsageError: it does not exist or is not YAML with named fields.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration file {path} is not YAML: {error}.") from None
    if not isinstance(values, dict):
        raise UsageError(f"The configuration file {path} must hold `field: value` lines.")
    return values


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields by dotted name.

    >>> flatten({"search": {"branch": 3}, "rounds": 2})
    {'search.branch': 3, 'rounds': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return what changed from one configuration to the other, or an empty text.

    >>> difference({"seed": 0, "rounds": 2}, {"seed": 1, "rounds": 2})
    'seed was 0, now 1'
    """
    old, new = flatten(_jsonable(before)), flatten(_jsonable(after))
    missing = _Absent()
    pairs = {name: (old.get(name, missing), new.get(name, missing)) for name in {**old, **new}}
    return "; ".join(f"{name} was {was!r}, now {now!r}" for name, (was, now) in pairs.items() if was != now)


class _Absent:
    def __repr__(self) -> str:
        return "absent"


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Check `value` against a field's type; integers pass as floats, and 3e-4 read as text as a number."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        kind = typing.cast(type, hint)
        return value if isinstance(value, kind) else from_dict(kind, value, path)
    if origin is typing.Literal:
        if any(type(value) is type(arg) and value == arg for arg in args):
            return value
        raise UsageError(f"Field {path!r} is {value!r}. {nearest(str(value), map(str, args))}")
    if origin is tuple and isinstance(value, list | tuple):
        kinds = args[:1] * len(value) if args[1:] == (...,) else args
        if len(kinds) != len(value):
            raise UsageError(f"Field {path!r} needs {len(kinds)} values, not {value!r}.")
        return tuple(_convert(kind, item, path) for kind, item in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, hint, value, path)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    name = getattr(hint, "__name__", str(hint))
    raise UsageError(f"Field {path!r} needs {name}, not {value!r} ({type(value).__name__}).")


def _convert_union(args: tuple[Any, ...], hint: Any, value: Any, path: str) -> Any:
    """Take the value as it is where its very type is allowed, else as the first type that accepts it."""
    if type(value) in args:
        return value
    others = [arg for arg in args if arg is not type(None)]
    if len(others) == 1:  # the message about that one type says more
        return _convert(others[0], value, path)
    for arg in others:
        try:
            return _convert(arg, value, path)
        except UsageError:
            continue
    raise UsageError(f"Field {path!r} needs {hint}, not {value!r} ({type(value).__name__}).")
