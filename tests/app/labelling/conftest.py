"""Pages for the tests of this folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .serving import Served, served


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve pages until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda pool, query, **more: stack.enter_context(served(tmp_path, pool, query, **more))
