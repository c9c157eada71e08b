"""One thread for all: the work is small, and threads that wait for one another make it slow."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
