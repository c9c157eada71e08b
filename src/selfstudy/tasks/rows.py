"""From rows to problems: what cannot be used is counted by reason, reported, and refused if it is much."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfstudy.core.errors import DataError, nearest
from selfstudy.data.problem_images import LEAST_SIDE, LONGEST_SHAPE, UnusableImage, cell_images
from selfstudy.data.readers import UNPARSABLE, Row, plain_text
from selfstudy.data.splits import split_of
from selfstudy.signals.verifiers import Verifier
from selfstudy.tasks.reasoning import Item

DROPS_ALLOWED = 0.2
DUPLICATED = "duplicated"
IMAGES_ALLOWED, ROWS_NAMED = 0.01, 5  # rows without usable images: share, and how many a message names
TORN_SHOWN = 5  # questions with two answers that a message lists

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Usable problems of a source, and the number of rows that were dropped, by reason."""

    items: list[Item]
    dropped: dict[str, int]


def columns(
    prompt: str,
    answer: str,
    solution: str = "",
    hints: Sequence[str] = (),
    images: str = "",
    folder: Path = Path(),
) -> Callable[[Mapping[str, Any]], Item]:
    """Return a reader of rows that takes question, answer, steps, hints and images from named columns.

    Without a column of answers problems are unlabelled. Paths of images start at `folder`.
    """

    def read(values: Mapping[str, Any]) -> Item:
        lines = plain_text(values.get(solution)) if solution else ""
        steps = tuple(line.strip() for line in lines.split("\n") if line.strip())
        help_ = tuple(filter(None, (plain_text(values.get(hint)) for hint in hints)))
        return Item(
            plain_text(values.get(prompt)),
            plain_text(values.get(answer)) if answer else "",
            steps or None,
            help_,
            cell_images(values.get(images), folder) if images else (),
            labelled=bool(answer),
        )

    return read


def need_columns(source: str, rows: Iterable[Row], wanted: Sequence[str]) -> None:
    """Check that every wanted column occurs.

    Raises:
        DataError: one does not; the message names the nearest that does.
    """
    known = sorted({name for row in rows if row.values for name in row.values if name is not None})
    for name in wanted:
        if known and name not in known:
            raise DataError(f"{source} has no column {name!r}. {nearest(name, known)}")


def gather(
    source: str,
    rows: Sequence[Row],
    read: Callable[[Mapping[str, Any]], Item],
    verifier: Verifier,
    *,
    taken: Iterable[str] = (),
) -> Gathered:
    """Turn rows into problems.

    Args:
        source: what the rows come from, for messages.
        rows: the rows.
        read: makes an item of a row's values; a TypeError, ValueError or KeyError means "unparsable".
        verifier: its idea of a usable gold answer decides.
        taken: keys of items that are in the test split already.

    Raises:
        DataError: over 20 % of the rows were dropped, or all of them, or over 1 % for their images; a
            question with two different answers.
    """
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    first: Row | None = None
    seen, taken = dict[str, str](), set(taken)
    torn: dict[str, str] = {}
    unseen: list[tuple[int, str]] = []
    for row in rows:
        item, fault = None, row.fault
        if row.values is not None:
            try:
                item = read(row.values)
                fault = _fault(item, verifier, seen, taken)
            except UnusableImage as error:
                fault = str(error)
                unseen.append((row.line, fault))
            except (TypeError, ValueError, KeyError):
                fault = UNPARSABLE
        if fault or item is None:
            dropped[fault] += 1
            first = first or row
            if fault == DUPLICATED and item and not _same(item, seen[item.key], verifier):
                torn.setdefault(item.key, item.answer)
            continue
        seen[item.key] = item.answer
        items.append(item)
    _require_images(source, unseen, len(rows))
    if torn:
        some = "; ".join(f"{q[:60]!r}: {seen[q]!r} and {a!r}" for q, a in list(torn.items())[:TORN_SHOWN])
        raise DataError(
            f"{len(torn)} questions of {source} stand there with different answers ({some}"
            f"{'; ...' if len(torn) > TORN_SHOWN else ''}). Keep one answer of each, or make the questions "
            "differ."
        )
    if first is not None:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        if sum(dropped.values()) > DROPS_ALLOWED * len(rows) or not items:
            raise DataError(
                f"{sum(dropped.values())} of {len(rows)} rows of {source} cannot be used ({counts}), "
                f"the first at line {first.line}; up to {DROPS_ALLOWED:.0%} are dropped. "
                "Repair the rows or name other columns."
            )
        _log.warning("%s: dropped %d of %d rows (%s).", source, sum(dropped.values()), len(rows), counts)
    return Gathered(items, dict(dropped))


def _require_images(source: str, unseen: Sequence[tuple[int, str]], count: int) -> None:
    """Refuse rows (line, fault) without usable images where they are many of `count`; else name them."""
    if not unseen:
        return
    named = ", ".join(f"{line} {fault}" for line, fault in unseen[:ROWS_NAMED])
    named += f" and {len(unseen) - ROWS_NAMED} more" * (len(unseen) > ROWS_NAMED)
    if len(unseen) > IMAGES_ALLOWED * count:
        raise DataError(
            f"{len(unseen)} of {count} rows of {source} are without images that can be used: row {named}; up "
            f"to {IMAGES_ALLOWED:.0%} are dropped. Paths start at the folder of the file; sides are at least "
            f"{LEAST_SIDE} pixels, and none is over {LONGEST_SHAPE} times the other. Mend the images, or "
            "leave the rows out."
        )
    _log.warning("%s: dropped %d rows for their images: row %s.", source, len(unseen), named)


def _same(item: Item, answer: str, verifier: Verifier) -> bool:
    """Tell whether two answers to one question are one: as texts, or as the verifier sees it."""
    if item.answer == answer or verifier.reads != "answer" or verifier.grade_all is not None:
        return item.answer == answer
    return verifier.usable(item.answer) and bool(verifier(item.prompt, answer, item.answer))


def _fault(item: Item, verifier: Verifier, seen: Mapping[str, str], taken: set[str]) -> str:
    if not item.prompt and not item.answer:
        return "empty"
    if not item.prompt:
        return "without a question"
    if not item.answer and item.labelled:
        return "without an answer"
    if item.key in seen:
        return DUPLICATED
    if item.key in taken:
        return "also in the test split"
    return (
        "" if not item.labelled or verifier.usable(item.answer) else "with an answer that cannot be verified"
    )


def split_items(
    source: str, items: Sequence[Item], test: Sequence[Item] | None = None, *, labelled: bool = True
) -> dict[str, list[Item]]:
    """Split by hash: 70/10/20 %, or 90/10 % beside a given test split.

    Items without labels are all to train on; a given test split then goes to validation and test, 20/80 %.

    Raises:
        DataError: no problem is left to train on or to test on.
    """
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": list(test or ())}
    ends = {} if test is None else {"train_end": 0.9, "validation_end": 1.0}
    if not labelled:
        splits |= {"train": list(items), "test": []}
        items, ends = list(test or ()), {"train_end": 0.0, "validation_end": 0.2}
    for item in items:
        splits[split_of(item.home, **ends)].append(item)
    for split in ("train", "test"):
        if not splits[split]:
            raise DataError(
                f"{source} gives {len(items)} problems, and none of them falls into the {split} split. "
                "Give more problems, or a file of their own to test on: ?test=FILE."
            )
    return splits
