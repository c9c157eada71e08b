"""The budget as a first-class number: what a run may spend, and the meter that counts what it did."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, fields
from typing import Any

from selfstudy.core.errors import BudgetSpent, UsageError, nearest

# Short names accepted on the command line, as in `--budget tokens=2e6`.
ALIASES = {"tokens": "generated_tokens", "labels": "oracle_labels", "checks": "verifier_calls"}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Upper limits by kind; None means unlimited.

    FLOPs are counted by the usual rule: 2 per parameter and token forward, 6 per parameter and token
    in a training step.
    """

    generated_tokens: float | None = None
    """Tokens drawn from a language model, failed retries included."""
    scored_tokens: float | None = None
    """Tokens read by a value model or scored by a language model."""
    prompt_tokens: float | None = None
    """Tokens of prompts that a server has read; repeated ones count again."""
    cost: float | None = None
    """Price of what a server has read and drawn, in the currency of the model's prices."""
    flops: float | None = None
    """Floating-point operations in models, forward and training."""
    samples: float | None = None
    """Training examples seen, repetitions counted."""
    verifier_calls: float | None = None
    """Checks of an answer against the truth."""
    oracle_labels: float | None = None
    """Labels given out by the task."""
    seconds: float | None = None
    """Wall-clock seconds, over all sessions of a resumed run."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `unit=number[,unit=number]`.

        >>> Budget.parse("tokens=2e6,seconds=60").generated_tokens
        2000000.0

        Raises:
            UsageError: an unknown unit or something that is not a positive number.
        """
        limits: dict[str, float] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, _, number = (word.strip() for word in part.partition("="))
            unit = ALIASES.get(name, name.replace("-", "_"))
            if unit not in UNITS:
                raise UsageError(f"Unknown budget unit {name!r}. {nearest(name, [*UNITS, *ALIASES])}")
            if unit in limits:
                raise UsageError(f"Budget {text!r} limits {unit.replace('_', ' ')} twice. Give one limit.")
            try:
                limits[unit] = float(number)
            except ValueError:
                raise UsageError(
                    f"Budget {part!r} needs a number after the equals sign, such as tokens=2e6."
                ) from None
            if not limits[unit] > 0:
                raise UsageError(f"Budget {part!r} must be above zero.")
        return cls(**limits)


UNITS = tuple(field.name for field in fields(Budget))


class Meter:
    """Counts what is spent, by kind, and refuses work that the budget does not cover.

    Engines charge *before* they work, so that the counts never pass the limits. `refused` is the unit of
    the last charge that was refused, None while the budget has covered everything. `record`, where it is a
    list, gets every charge that is asked for, so that another meter can repeat them.
    """

    def __init__(self, budget: Budget | None = None, spent: dict[str, float] | None = None) -> None:
        self.budget = budget or Budget()
        self.refused: str | None = None
        self.record: list[dict[str, float]] | None = None
        self._spent: dict[str, float] = dict.fromkeys(UNITS, 0)
        self._spent.update(spent or {})
        self._earlier_seconds = self._spent["seconds"]
        self._start = time.monotonic()

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process, perhaps on another machine, has another clock.
        return Meter, (self.budget, self.snapshot())

    def snapshot(self) -> dict[str, float]:
        """Return the amounts spent so far, by unit."""
        self._spent["seconds"] = round(self._earlier_seconds + time.monotonic() - self._start, 3)
        return dict(self._spent)

    def restore(self, spent: dict[str, float]) -> None:
        """Set the counts to an earlier snapshot; seconds are never set back."""
        seconds = max(self.snapshot()["seconds"], spent.get("seconds", 0))
        self._spent = {**dict.fromkeys(UNITS, 0), **spent, "seconds": seconds}
        self._earlier_seconds, self._start = seconds, time.monotonic()

    def affords(self, **amounts: float) -> bool:
        """Tell whether the budget covers `amounts` on top of what is spent, and is not used up."""
        return self._short_of(amounts) is None

    def charge(self, **amounts: float) -> None:
        """Count `amounts`.

        Raises:
            BudgetSpent: they would pass a limit; nothing is counted then.
        """
        if self.record is not None:
            self.record.append(amounts)
        unit = self._short_of(amounts)
        if unit is not None:
            self.refused = unit
            raise BudgetSpent(
                f"The budget of {getattr(self.budget, unit):g} {unit.replace('_', ' ')} is spent. "
                "Resume the run with a larger --budget to go on."
            )
        self._spent.update({name: self._spent[name] + amount for name, amount in amounts.items()})

    def _short_of(self, amounts: dict[str, float]) -> str | None:
        spent = self.snapshot() if self.budget.seconds is not None else self._spent
        for unit in UNITS:
            limit = getattr(self.budget, unit)
            amount = amounts.get(unit, 0)
            if limit is not None and (spent[unit] + amount > limit or (not amounts and spent[unit] >= limit)):
                return unit
        return None


def describe(spent: dict[str, float]) -> str:
    """Return the non-zero amounts as one line.

    >>> describe({"generated_tokens": 1234567, "seconds": 0})
    '1,234,567 generated tokens'
    """
    parts = [
        f"{amount:.3g} {unit}" if unit in ("flops", "cost") else f"{amount:,.0f} {unit.replace('_', ' ')}"
        for unit, amount in spent.items()
        if amount
    ]
    return ", ".join(parts) or "nothing"


def limits(budget: Budget) -> dict[str, float]:
    """Return the limits that are set."""
    return {name: value for name, value in dataclasses.asdict(budget).items() if value is not None}
