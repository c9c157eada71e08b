"""Labels that people give: asked for by a run, kept in its directory, given at the labelling page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from selfstudy.core.errors import Waiting
from selfstudy.data.label_table import PERSON
from selfstudy.data.oracles import Query


@dataclass(frozen=True)
class Person:
    """An oracle that writes its query into the run's directory and waits for people to answer it."""

    kind: ClassVar[str] = PERSON

    def answers(self, query: Query, directory: Path) -> list[str]:
        """Return the answers to `query`.

        Raises:
            Waiting: some are not there yet.
        """
        raise Waiting(f"{len(query.places)} labels are asked for: selfstudy label {directory}")
