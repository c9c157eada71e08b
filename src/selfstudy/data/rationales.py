"""Rationales with their verdicts: one for each of N examples, kept from step to step, and as a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from selfstudy.core.files import write_text
from selfstudy.data.splits import text_key

FILE = "rationales.jsonl"


class Drawn(NamedTuple):
    """A drawn rationale."""

    tokens: tuple[int, ...]
    """All of them, the end token included."""
    text: str
    right: bool
    """Whether its answer is right."""
    answered: bool
    """Whether it states an answer at all."""


NOTHING = Drawn((), "", False, False)


class RationaleStore:
    """N places for one rationale each, as a state for checkpoints.

    Args:
        size: N; each place is empty at first, which counts as wrong.

    Attributes:
        since: [N], the step in which each place was last filled; -1 before the first.
    """

    def __init__(self, size: int) -> None:
        self._held = [NOTHING] * size
        self.since = np.full(size, -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, place: int) -> Drawn:
        return self._held[place]

    def put(self, place: int, drawn: Drawn, step: int) -> None:
        """Fill a place."""
        self._held[place] = drawn
        self.since[place] = step

    def offer(self, place: int, proposal: Drawn, step: int) -> bool:
        """Put a proposal in if it is right, and tell whether it was.

        With c(z) = 1 for a right rationale, else 0, this is Metropolis's rule for proposals drawn from the
        model itself: the ratio [p(z~) c(z~) p(z)] / [p(z) c(z) p(z~)] is c(z~) / c(z). A wrong state gives
        way to any right proposal.
        """
        if proposal.right:
            self.put(place, proposal, step)
        return proposal.right

    @property
    def right(self) -> np.ndarray:
        """[N] bool, which places hold a right rationale."""
        return np.array([one.right for one in self._held], dtype=bool)

    def ages(self, step: int) -> np.ndarray:
        """Return how many steps ago each right rationale was put in."""
        return (step - self.since)[self.right]

    def state_dict(self) -> dict[str, Any]:
        """Return what is held: the tokens in one row, one after the other."""
        return {
            "tokens": np.array([token for one in self._held for token in one.tokens], dtype=np.int64),
            "lengths": np.array([len(one.tokens) for one in self._held], dtype=np.int64),
            "texts": json.dumps([one.text for one in self._held]),
            "right": self.right,
            "answered": np.array([one.answered for one in self._held], dtype=bool),
            "since": self.since,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        ends = np.cumsum(state_dict["lengths"])[:-1]
        rows = np.split(state_dict["tokens"], ends)
        texts = json.loads(state_dict["texts"])
        self._held = [
            Drawn(tuple(row.tolist()), text, bool(right), bool(answered))
            for row, text, right, answered in zip(
                rows, texts, state_dict["right"], state_dict["answered"], strict=True
            )
        ]
        self.since = state_dict["since"].copy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rationale:
    """What is known of one problem in the end."""

    prompt: str
    """The question."""
    solution: str
    right: bool
    age: int
    """Steps since it was drawn."""


@dataclass(frozen=True)
class Rationales:
    """A data set of rationales, in a file of JSON lines.

    Attributes:
        rows: one a problem.
    """

    rows: tuple[Rationale, ...]

    @classmethod
    def of(cls, questions: Sequence[str], store: RationaleStore, step: int) -> Self:
        """Return what `store` holds for the questions, as of `step`."""
        return cls(
            tuple(
                Rationale(
                    prompt=question,
                    solution=store[place].text,
                    right=store[place].right,
                    age=int(step - store.since[place]),
                )
                for place, question in enumerate(questions)
            )
        )

    @property
    def hash(self) -> str:
        """A hash of all rows, by which runs are compared."""
        return text_key(self._lines())

    def save(self, folder: Path) -> None:
        """Write `rationales.jsonl`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, self._lines())

    def _lines(self) -> str:
        return "".join(json.dumps(asdict(row)) + "\n" for row in self.rows)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        lines = (Path(folder) / FILE).read_text(encoding="utf-8").splitlines()
        return cls(tuple(Rationale(**json.loads(line)) for line in lines))
