"""What all tests share: temporary folders in memory, and less work for the garbage collector."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

MEMORY, ENOUGH = Path("/dev/shm"), 4 * 2**30


def pytest_configure() -> None:
    """Keep temporary folders in memory, where there is room: runs force every line of a log to disk."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_finish() -> None:
    """Hide what was imported from the garbage collector, which would go through all of it again and again."""
    gc.collect()
    gc.freeze()
