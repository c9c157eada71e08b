"""Trained models in a run's directory: written whole, with checksums and the class that loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfstudy.core.checkpoint import check_sums, find_class, name_class, write_sums
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.files import read_json, write_json, write_whole
from selfstudy.core.method import Fit
from selfstudy.evaluation.summary import read_summary

KIND, PICTURES = "kind.json", "pictures.json"


def save(part: Any, folder: Path) -> None:
    """Write a model whole, with the name of the class that loads it and checksums."""

    def write(temporary: Path) -> None:
        temporary.mkdir(parents=True)
        part.save(temporary)
        write_json(temporary / KIND, name_class(type(part)))
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
    return _read(folder)


def finished(directory: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run, if what it saved is there as it was written."""
    summary = read_summary(directory)
    if summary is None:
        return None
    try:
        for name in summary["saved"]:
            check_sums(directory / name)
    except MachineError:
        return None
    return summary


def read_fit(directory: Path, summary: dict[str, Any]) -> Fit:
    """Return what the run in `directory` gave that is `finished` with this summary."""
    parts = {name: _read(directory / name) for name in summary["saved"]}
    return Fit(
        model=parts.pop("model"),
        parts=parts,
        metrics=summary["metrics"],
        held_to=summary["held_to"],
        pictures=read_json(directory / PICTURES),
    )


def _read(folder: Path) -> Any:
    return find_class(read_json(folder / KIND), folder / KIND).load(folder)
