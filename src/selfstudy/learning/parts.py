"""Several trained objects as the result of one stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.files import read_json, write_json

KINDS = "kinds.json"


class Parts(dict[str, Any]):
    """Trained objects by name, each with `save(folder)` and a class method `load(folder)`."""

    def save(self, folder: Path) -> None:
        """Write each to a folder of its name."""
        for name, part in self.items():
            part.save(folder / name)
        write_json(folder / KINDS, {name: name_class(type(part)) for name, part in self.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        kinds = read_json(folder / KINDS)
        return cls(
            {name: find_class(kind, folder / KINDS).load(folder / name) for name, kind in kinds.items()}
        )
