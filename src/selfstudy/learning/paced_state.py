"""What self-paced machines know between two rounds, and what people tell them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import safetensors.torch
import torch

from selfstudy.core.errors import DataError
from selfstudy.core.files import read_json, write_json
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.loops import check_not_negative, check_positive
from selfstudy.learning.weighted_svm import Machines, SvmLoss
from selfstudy.signals.self_paced import RegulariserName

ARRAYS, NAMES = "paced.safetensors", "paced.json"
YES, NO = 1, 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SelfPaced:
    """How machines pace themselves."""

    penalty: float = 1.0
    """C, of the losses against the squared weights."""
    loss: SvmLoss = "squared-hinge"
    """Of a machine; the paper's is "hinge"."""
    regulariser: RegulariserName = "linear"
    """How weights fall with the loss: in a line, from 1 to 0 at once, or steeply and then slowly."""
    age: float = 0.2
    """lambda / C at the start: the loss at which a pseudo-label counts no more."""
    pace: float = 0.08
    """alpha / C: what a round adds to the age of a machine that is always right."""
    aging: int = 12
    """tau, rounds after which ages stay."""
    growth: float = 0.03
    """Share of the unlabelled items that each round adds to those that may be pseudo-labelled."""
    alternations: int = 3
    """Times a round that pseudo-labels, weights and machines are brought up to each other."""
    kept: float = 0.01
    """Share of a class's pseudo-labelled items, those of the least loss, that count where the age would let
    none; 0 lets it have none."""

    @property
    def first_age(self) -> float:
        """The age that a class starts with."""
        return self.age * self.penalty

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, penalty=0, age=0, growth=0, alternations=0)
        check_not_negative(self, "pace", "aging", "kept")


@dataclass(frozen=True)
class Paced:
    """What is known of N items and C classes between two rounds.

    Attributes:
        classes: their names.
        rounds: done so far.
        labels: of A, the items that somebody annotated: [N]; `UNKNOWN` elsewhere.
        refused: [N], the class that somebody said an item is not of; `UNKNOWN` where nobody did. Such an item
            gets no pseudo-label any more.
        confirmed: [N], whether the label of an item of A was a pseudo-label that somebody confirmed.
        unsure: [N], whether somebody was asked and did not know: such an item is not asked again, and gets no
            pseudo-label.
        high: [N], whether an item is in H.
        pseudo: [N], the pseudo-label of an item of H; `UNKNOWN` elsewhere, and where no machine claims it.
        weights: v: [N, C], 1 for A, from 0 to 1 for H, 0 for the rest.
        ages: lambda: [C].
        machines: of the C classes; none before the first round.
    """

    classes: tuple[str, ...]
    rounds: int
    labels: torch.Tensor
    refused: torch.Tensor
    confirmed: torch.Tensor
    unsure: torch.Tensor
    high: torch.Tensor
    pseudo: torch.Tensor
    weights: torch.Tensor
    ages: torch.Tensor
    machines: Machines | None = None

    @property
    def annotated(self) -> torch.Tensor:
        """Whether each item is in A: [N]."""
        return self.labels != UNKNOWN

    @property
    def allowed(self) -> torch.Tensor:
        """Whether each item may get a pseudo-label: [N]."""
        return self.open & (self.refused == UNKNOWN)

    @property
    def open(self) -> torch.Tensor:
        """Whether the class of each item may be asked for: [N]."""
        return ~self.annotated & ~self.unsure

    @property
    def held(self) -> torch.Tensor:
        """The label that each item is trained with: [N]."""
        return torch.where(self.annotated, self.labels, self.pseudo)

    @property
    def by_input(self) -> torch.Tensor:
        """How much each item's label counts: v of its class, 0 where it has none: [N]."""
        held = self.held
        own = self.weights.gather(1, held.clamp(min=0)[:, None])[:, 0]
        return torch.where(held == UNKNOWN, 0.0, own)

    def save(self, folder: Path) -> None:
        """Write the arrays (safetensors) and the rest (JSON)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name).contiguous() for name in _arrays(type(self))}
        if self.machines is not None:
            arrays |= {f"machines.{name}": part for name, part in self.machines._asdict().items()}
        safetensors.torch.save_file(arrays, folder / ARRAYS)
        write_json(folder / NAMES, {"classes": list(self.classes), "rounds": self.rounds})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said, arrays = read_json(Path(folder) / NAMES), safetensors.torch.load_file(Path(folder) / ARRAYS)
        parts = [arrays.get(f"machines.{name}") for name in Machines._fields]
        return cls(
            classes=tuple(said["classes"]),
            rounds=said["rounds"],
            machines=None if parts[0] is None else Machines(*parts),  # type: ignore[arg-type]
            **{name: arrays[name] for name in _arrays(cls)},
        )


def _arrays(kind: type[Paced]) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in ("classes", "rounds", "machines")]


def at_the_start(labels: torch.Tensor, classes: Sequence[str], settings: SelfPaced) -> Paced:
    """Return the state before the first round, from labels [N], `UNKNOWN` where there is none.

    Raises:
        DataError: fewer than two classes, or one without a label.
    """
    names = tuple(classes)
    missing = [name for code, name in enumerate(names) if not (labels == code).any()]
    if len(names) < 2 or missing:
        short = f"no label of {', '.join(map(repr, missing[:5]))}" if missing else f"{len(names)} class"
        raise DataError(
            f"There is {short} among the items. Machines of one class against all others need two classes or "
            "more, and a labelled item of each."
        )
    count = len(labels)
    return Paced(
        classes=names,
        rounds=0,
        labels=labels.clone(),
        refused=torch.full((count,), UNKNOWN),
        confirmed=torch.zeros(count, dtype=torch.bool),
        unsure=torch.zeros(count, dtype=torch.bool),
        high=torch.zeros(count, dtype=torch.bool),
        pseudo=torch.full((count,), UNKNOWN),
        weights=full_weights(labels, len(names)),
        ages=torch.full((len(names),), settings.first_age, dtype=torch.float64),
    )


def full_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return weights [N, C] of 1 where there is a label [N], of 0 elsewhere."""
    return (labels != UNKNOWN).double()[:, None].repeat(1, classes)


def annotated(
    state: Paced, places: torch.Tensor, labels: torch.Tensor, classes: Sequence[str], settings: SelfPaced
) -> Paced:
    """Return the state after answers [B] of `classes`, which may be more than before; `UNKNOWN` is not sure.

    A later answer counts, also where it contradicts an earlier refusal; that is logged.
    """
    state = with_classes(state, classes, settings)
    known = labels != UNKNOWN
    for place, label in zip(places[known].tolist(), labels[known].tolist(), strict=True):
        if int(state.refused[place]) == label:
            _log.warning(
                "Item %d was said not to be %r and is now said to be it; the later answer counts.",
                place,
                state.classes[label],
            )
    every, refused, unsure = state.labels.clone(), state.refused.clone(), state.unsure.clone()
    every[places[known]] = labels[known]
    refused[places[known]] = UNKNOWN
    unsure[places[~known]] = True
    state = _let_go(state, places)
    weights = state.weights.clone()
    weights[places[known]] = 1.0
    return replace(state, labels=every, refused=refused, unsure=unsure, weights=weights)


def certified(state: Paced, places: torch.Tensor, proposed: torch.Tensor, said: torch.Tensor) -> Paced:
    """Return the state after classes proposed for items [B] were confirmed or refused.

    What is confirmed joins A. What is refused loses its pseudo-label, and gets none any more.

    Args:
        state: before it.
        places: [B].
        proposed: [B].
        said: [B], `YES`, `NO` or `UNKNOWN`: not sure.
    """
    labels, refused = state.labels.clone(), state.refused.clone()
    confirmed, unsure = state.confirmed.clone(), state.unsure.clone()
    yes, no = places[said == YES], places[said == NO]
    labels[yes], refused[no] = proposed[said == YES], proposed[said == NO]
    confirmed[yes], unsure[places[said == UNKNOWN]] = True, True
    state = _let_go(state, places)
    weights = state.weights.clone()
    weights[yes] = 1.0
    return replace(state, labels=labels, refused=refused, confirmed=confirmed, unsure=unsure, weights=weights)


def with_classes(state: Paced, classes: Sequence[str], settings: SelfPaced) -> Paced:
    """Return the state with the classes that it lacks, as young as all were at the start."""
    more = len(classes) - len(state.classes)
    fresh = torch.full((more,), settings.first_age, dtype=torch.float64)
    # A pseudo-labelled item may well be of a new class: it says nothing about it.
    weights = torch.cat([state.weights, full_weights(state.labels, more)], 1)
    return replace(state, classes=tuple(classes), ages=torch.cat([state.ages, fresh]), weights=weights)


def with_items(state: Paced, labels: torch.Tensor) -> Paced:
    """Return the state with more items behind the others, annotated where `labels` [M] are not `UNKNOWN`."""
    none, no = torch.full((len(labels),), UNKNOWN), torch.zeros(len(labels), dtype=torch.bool)
    return replace(
        state,
        labels=torch.cat([state.labels, labels]),
        refused=torch.cat([state.refused, none]),
        confirmed=torch.cat([state.confirmed, no]),
        unsure=torch.cat([state.unsure, no]),
        high=torch.cat([state.high, no]),
        pseudo=torch.cat([state.pseudo, none]),
        weights=torch.cat([state.weights, full_weights(labels, len(state.classes))]),
    )


def _let_go(state: Paced, places: torch.Tensor) -> Paced:
    """Take items out of H."""
    high, pseudo, weights = state.high.clone(), state.pseudo.clone(), state.weights.clone()
    high[places], pseudo[places], weights[places] = False, UNKNOWN, 0.0
    return replace(state, high=high, pseudo=pseudo, weights=weights)
