"""One thread, and runs in a temporary directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from selfstudy.core.run import Run


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def open_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Opens the run of a name, again if it was opened before; it checkpoints after every step."""
    opened: list[Run] = []

    def open_one(name: str = "run", **options: object) -> Run:
        for run in opened:
            run.close()
        opened.append(Run(tmp_path / name, {}, checkpoint_steps=1, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for run in opened:
        run.close()
