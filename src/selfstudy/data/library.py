"""Known data sets on this machine: `$SELFSTUDY_DATA/<name>/...`."""

from __future__ import annotations

import os
from pathlib import Path

from selfstudy.core.errors import DataError

VARIABLE = "SELFSTUDY_DATA"


def library_file(relative: str) -> Path | None:
    """Return the file in the folder that $SELFSTUDY_DATA names, or None when it is not there.

    Raises:
        DataError: $SELFSTUDY_DATA is set, but is no folder.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise DataError(f"${VARIABLE} is {folder!r}, which is no folder. Set it to the folder of data sets.")
    path = Path(folder) / relative
    return path if path.is_file() else None
