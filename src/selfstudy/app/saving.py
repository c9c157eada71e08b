"""Trained models in a run's directory: written whole, with checksums and the class that loads them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from selfstudy.core.checkpoint import check_sums, write_sums
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.files import read_json, write_json, write_whole
from selfstudy.core.method import Fit
from selfstudy.evaluation.summary import read_summary

KIND = "kind.json"


def save(part: Any, folder: Path) -> None:
    """Write a model whole, with the name of the class that loads it and checksums."""

    def write(temporary: Path) -> None:
        temporary.mkdir(parents=True)
        part.save(temporary)
        write_json(temporary / KIND, f"{type(part).__module__}:{type(part).__qualname__}")
        write_sums(temporary)

    write_whole(folder, write)


def load(directory: str | Path, part: str = "model") -> Any:
    """Return a saved model of the run in `directory`; `part` names one of the others, such as "value".

    Raises:
        UsageError: there is no such model.
        MachineError: one of its files is missing, truncated or edited.
    """
    folder = Path(directory) / part
    if not (folder / KIND).exists():
        raise UsageError(f"{folder} holds no saved model. Has the run finished? selfstudy resume {directory}")
    check_sums(folder, f"selfstudy resume {directory} writes it again.")
    module, _, name = str(read_json(folder / KIND)).partition(":")
    if not module.startswith("selfstudy."):
        raise MachineError(f"{folder / KIND} names {module}:{name}, which is not one of ours.")
    return getattr(importlib.import_module(module), name).load(folder)


def whole(directory: Path) -> bool:
    """Tell whether the run in `directory` is finished, and what it saved is there as it was written."""
    summary = read_summary(directory)
    if summary is None:
        return False
    try:
        for name in summary.get("saved", []):
            check_sums(directory / name)
    except MachineError:
        return False
    return True


def read_fit(directory: Path) -> Fit:
    """Return what the finished run in `directory` gave."""
    summary = read_summary(directory) or {}
    parts = {name: load(directory, name) for name in summary.get("saved", []) if name != "model"}
    return Fit(model=load(directory), parts=parts, metrics=summary.get("metrics", {}))
