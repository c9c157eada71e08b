"""Small chains, the embedded model, and runs in a temporary directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.core.files import read_json
from selfstudy.core.run import Run
from selfstudy.models.language.model import LanguageModel
from selfstudy.tasks.reasoning import ReasoningTask


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def policy() -> LanguageModel:
    return selfstudy.model("tiny-lm")


@pytest.fixture(scope="session")
def chains() -> Callable[..., ReasoningTask]:
    """Makes a chain100 task of `train` problems."""

    def make(steps: int | str = 2, train: int = 10) -> ReasoningTask:
        return selfstudy.task(f"chain100?steps={steps}&train={train}&validation=0&test=1")

    return make


@pytest.fixture
def open_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Opens the run of a name, again if it was opened before."""
    opened: list[Run] = []

    def open_one(name: str = "run", **options: Any) -> Run:
        for run in opened:
            run.close()
        opened.append(Run(tmp_path / name, {}, **options))
        return opened[-1]

    yield open_one
    for run in opened:
        run.close()


@pytest.fixture(scope="session")
def records() -> Callable[[Run], dict[str, Any]]:
    """Reads the JSON results of all stages of a run, by name."""

    def read(run: Run) -> dict[str, Any]:
        paths = sorted(run.directory.glob("stages/*/stage.json"))
        return {path.parent.name: read_json(path)["value"] for path in paths if "value" in read_json(path)}

    return read
