"""States as files: safetensors for tensors, JSON for the rest, a checksum for both. No pickle.

A state is a dictionary of objects with `state_dict` and `load_state_dict` (modules, optimisers,
schedules). A checkpoint is a folder that appears whole; its checksums tell damage from a good file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.files import read_json, write_json, write_whole

if TYPE_CHECKING:
    import torch

TENSORS, STRUCTURE, SUMS = "state.safetensors", "state.json", "checksums.json"
KEPT = 2  # the newest, and the one before it in case the newest is damaged


class Stateful(Protocol):
    """What can be checkpointed."""

    def state_dict(self) -> dict[str, Any]:
        """Return dictionaries, lists, tensors and plain values."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take over what `state_dict` returned."""


def save_state(path: Path, state: dict[str, Stateful], extra: dict[str, Any], *, write: bool = True) -> None:
    """Write the states and the JSON data `extra` as the folder `path`.

    Where several processes hold a state together, all of them call this, and one does `write`.
    """
    import safetensors.torch

    tensors: dict[str, torch.Tensor] = {}
    structure = {name: _encode(part.state_dict(), name, tensors) for name, part in state.items()}

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        safetensors.torch.save_file(tensors, folder / TENSORS)
        write_json(folder / STRUCTURE, {"state": structure, "extra": extra})
        write_sums(folder)

    if write:
        write_whole(path, fill)


def load_state(path: Path, state: dict[str, Stateful]) -> dict[str, Any]:
    """Load the folder `path` into the objects of `state`; return its extra data."""
    import safetensors.torch

    check_sums(path)
    content = read_json(path / STRUCTURE)
    tensors = safetensors.torch.load_file(path / TENSORS)
    for name, part in state.items():
        part.load_state_dict(_decode(content["state"][name], tensors))
    return content["extra"]


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, each named by its step, earliest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def drop_old(folder: Path) -> None:
    """Remove all checkpoints in `folder` but the newest `KEPT`."""
    for old in saved(folder)[:-KEPT]:
        shutil.rmtree(old)


def write_sums(folder: Path) -> None:
    """Add the checksums of all files in `folder` to it."""
    sums = {
        str(file.relative_to(folder)): _sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }
    write_json(folder / SUMS, sums)


def check_sums(folder: Path, otherwise: str = "") -> None:
    """Compare all files in `folder` with their checksums.

    Raises:
        MachineError: a file is missing, truncated or edited; names it, and adds `otherwise`, what to do.
    """
    otherwise = otherwise or f"Restore it, or delete the folder {folder} to redo that part of the run."
    try:
        sums = read_json(folder / SUMS)
    except MachineError:
        sums = None
    if not sums or not isinstance(sums, dict):
        raise MachineError(f"The file {folder / SUMS} is missing or damaged. {otherwise}")
    for name, expected in sums.items():
        file = folder / name
        if not file.is_file() or _sha256(file) != expected:
            what = "has been truncated or edited" if file.is_file() else "is missing"
            raise MachineError(
                f"The file {file} {what}: its checksum is not the one recorded beside it. " + otherwise
            )


def name_class(kind: type) -> str:
    """Return `module:name`, by which `find_class` finds the class in another process.

    Raises:
        UsageError: it cannot be found by that name, or has no class method `load`.
    """
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _lookup(name) is not kind:
        raise UsageError(
            f"The result of a stage is an object of {name}, which a resumed run could not read back. "
            "Define the class at the top of a module, with save(folder) and a class method load(folder)."
        )
    return name


def find_class(name: str, where: Path) -> Any:
    """Return the class that the file `where` names.

    Raises:
        MachineError: it is neither ours nor imported already: a file must not decide what code is run.
    """
    kind = _lookup(name)
    if kind is None:
        raise MachineError(f"{where} names {name!r}, which is not ours. Import its module first.")
    return kind


def _lookup(name: str) -> Any:
    module, _, path = name.partition(":")
    if module.startswith("selfstudy."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and hasattr(found, "load") else None


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _encode(value: Any, name: str, tensors: dict[str, Any]) -> Any:
    """Replace tensors in nested dictionaries and lists by references; keep keys that are not text."""
    import torch

    if isinstance(value, torch.Tensor):
        while name in tensors:  # {"a.b": x, "a": {"b": y}}, or the keys 0 and "0"
            name += "'"
        # A copy of its own: tied weights share storage, which safetensors refuses.
        tensors[name] = value.detach().cpu().clone().contiguous()
        # Fused optimisers pair weights and moments by their place in memory, so the order must come back.
        last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
        return {"tensor": name, "channels_last": last and not value.is_contiguous()}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
        return {"list": items, "tuple": isinstance(value, tuple)}
    if isinstance(value, np.ndarray):
        return {"array": value.ravel().tolist(), "dtype": value.dtype.str, "shape": value.shape}
    return {"plain": value}


def _decode(value: Any, tensors: dict[str, Any]) -> Any:
    if "tensor" in value:
        import torch

        order = torch.channels_last if value["channels_last"] else torch.contiguous_format
        return tensors[value["tensor"]].contiguous(memory_format=order)
    if "dict" in value:
        return {key: _decode(item, tensors) for key, item in value["dict"]}
    if "list" in value:
        items = [_decode(item, tensors) for item in value["list"]]
        return tuple(items) if value["tuple"] else items
    if "array" in value:
        return np.array(value["array"], dtype=value["dtype"]).reshape(value["shape"])
    return value["plain"]
