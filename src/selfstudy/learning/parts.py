"""Several trained objects as the result of one stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.files import read_json, write_json

PARTS = "parts.json"


@dataclass(frozen=True)
class Parts:
    """What a training gave.

    Attributes:
        parts: objects by name, each with `save(folder)` and a class method `load(folder)`.
        facts: JSON data beside them.
    """

    parts: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write each object to a folder of its name."""
        for name, part in self.parts.items():
            part.save(folder / name)
        kinds = {name: name_class(type(part)) for name, part in self.parts.items()}
        write_json(folder / PARTS, {"kinds": kinds, "facts": self.facts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        content = read_json(folder / PARTS)
        parts = {
            name: find_class(kind, folder / PARTS).load(folder / name)
            for name, kind in content["kinds"].items()
        }
        return cls(parts, content["facts"])
