"""What only a GPU can show; every test here is left out where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from selfstudy.core.run import Run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests of this folder where there is no GPU that torch can use."""
    if torch.cuda.is_available():
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs a GPU that torch can use (CUDA)"))


@pytest.fixture
def open_run(tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    """Opens the run of a name, again if it was opened before; it checkpoints after every step."""
    opened: list[Run] = []

    def open_one(name: str) -> Run:
        for run in opened:
            run.close()
        opened.append(Run(tmp_path / name, {}, checkpoint_steps=1))
        return opened[-1]

    yield open_one
    for run in opened:
        run.close()
