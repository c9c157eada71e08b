"""The oracle that is a person: a query waits in the run's directory until the page has its answers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from selfstudy.core.errors import Waiting
from selfstudy.data.label_answers import answer_with_brought
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.label_table import PERSON
from selfstudy.data.oracles import Query


@dataclass(frozen=True)
class Person:
    """An oracle that writes its query into the run's directory and waits for people to answer it."""

    kind: ClassVar[str] = PERSON

    def answers(self, query: Query, directory: Path) -> list[str]:
        """Return the answers to `query`: of each item what most people said, what came first at a tie.

        From then on they can no longer be changed.

        Raises:
            Waiting: some are not there yet.
        """
        with LabelDatabase(directory) as store:
            with store.change():
                number = store.pose(query)
                answer_with_brought(store, number)
                said = store.take(number)
            if said is not None:
                return said
            left = store.count("SELECT items - done FROM queries WHERE id = ?", number)
        command = f"selfstudy label {shlex.quote(str(directory))}"
        if left < len(query.places):
            raise Waiting(f"{left} of {len(query.places)} labels are still asked for: {command}")
        raise Waiting(f"{left} labels are asked for: {command}")
