"""ASPL: machines label what they are sure of, people what they are least sure of; classes may be added.

Lin, Wang, Meng, Zuo, Zhang 2017, "Active Self-Paced Learning for Cost-Effective and Progressive Face
Identification", arXiv 1701.03555. Pick it for many classes with good features (faces, products, species),
where the pool may hold classes that nobody has named yet, and where items keep coming. Plain active learning
(`arm active`) asks the same questions and learns from the answers alone; self-training (`arm self-training`)
keeps every pseudo-label that it ever gave. Here pseudo-labels are chosen anew in each round, as many of each
class, and an item that no machine claims, or several, gets none.

Deviations from the paper: its equations were rebuilt from the text, since its code was not found. Features
are centred, brought to a mean squared length of 1, and by default to 50 directions. The hinge is squared,
and pseudo-labels grow by 3 % of the pool a round; with the plain hinge and 10 % they did harm on images by
their pixels. A class's own items weigh as much as all others together, and within a round that weight stays.
Where too few items are claimed by several machines or by none, the least sure of the others are asked for. An
item about which somebody was not sure gets no pseudo-label. Features are tuned by AdamW, and only where
`tuning_every` says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.label_table import CONFIRMED, GIVEN, PREDICTED, PSEUDO, LabelTable
from selfstudy.evaluation.labelling_pictures import doubtful_items, learning_curve
from selfstudy.evaluation.self_paced_pictures import CLAIMS, claims_picture
from selfstudy.learning.loops import check_positive
from selfstudy.learning.network_inputs import can_be_trained, inputs_of
from selfstudy.learning.paced_state import Paced, SelfPaced, annotated, at_the_start, certified
from selfstudy.learning.projection import Projection, projection
from selfstudy.learning.self_paced import Learnt, Pseudo, learn, machine_classifier, scores_of, settled
from selfstudy.learning.staged_classifier import StagedClassifier
from selfstudy.learning.stages import Stage, StageTraining
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead, shared_out
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.signals.self_paced import least_sure, most_doubtful
from selfstudy.tasks.pools import PoolTask

_log = logging.getLogger(__name__)


class Arm(NamedTuple):
    """What is learnt from beside the answers, and which items are asked for."""

    pseudo: Pseudo
    asks: Literal["doubtful", "random", "nothing"]


ARMS = {
    "aspl": Arm("curriculum", "doubtful"),
    "active": Arm("none", "doubtful"),
    "random": Arm("none", "random"),
    "self-paced": Arm("curriculum", "nothing"),
    "self-training": Arm("cumulative", "doubtful"),
}


class View(NamedTuple):
    """The pool as the machines see it."""

    encoder: Any
    projection: Projection
    inputs: torch.Tensor
    """[N, e]."""


@dataclass(frozen=True, kw_only=True)
class Aspl(Method):
    """Pseudo-label what is sure, ask for what is not, in rounds (Lin et al. 2017)."""

    works_on = (PoolTask, (FlatEncoder, TextEncoder, ImageEncoder))

    rounds: int = 15
    """Times that somebody is asked; after the last answers the machines are trained once more."""
    query: int = 10
    """k_query, items whose class is asked for in a round."""
    confirm: int = 0
    """Pseudo-labelled items a round, the least sure, that are to be confirmed or refused; each counts as a
    label."""
    allow_new: bool = False
    """Whether an answer may name a new class. An item that no machine claims then has no label in the end."""
    arm: Literal["aspl", "active", "random", "self-paced", "self-training"] = "aspl"
    """The method, or what it is compared with: no pseudo-labels, and random questions; no questions;
    pseudo-labels by the highest score that stay."""
    components: int | None = 50
    """Main directions of the features that are used; None takes the features as they are."""
    pacing: SelfPaced = field(default_factory=SelfPaced)
    """Of machines and pseudo-labels."""
    tuning_every: int = 0
    """Rounds after which the encoder is trained on labels and pseudo-labels; 0 leaves it as it is."""
    tuning: StageTraining = field(default_factory=lambda: StageTraining(steps=200))
    """Of the encoder."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, rounds=-1, query=-1, confirm=-1, components=0, tuning_every=-1)
        self.pacing.validate()
        self.tuning.validate()

    def cost(self, task: PoolTask, model: Any) -> dict[str, float]:
        """Return what a fit spends at most, by budget unit."""
        arm, count = ARMS[self.arm], len(task.pool)
        asked = (self.query if arm.asks != "nothing" else 0) + self.confirm
        known = np.minimum(len(task.labelled) + asked * np.arange(self.rounds + 1), count)
        grown = np.minimum(1, self.pacing.growth * np.arange(1, self.rounds + 2)) * (count - known)
        high = known + (0 if arm.pseudo == "none" else np.ceil(grown))
        more = {"curriculum": self.pacing.alternations, "cumulative": 1, "none": 0}[arm.pseudo]
        samples = float(high.sum() * (1 + more))
        if self.tuning_every:
            samples += self.rounds // self.tuning_every * self.tuning.steps * self.tuning.batch
        return {"samples": samples, "oracle_labels": float(known[-1] - len(task.labelled))}

    def trial(self, task: PoolTask, model: Any) -> tuple[Callable[[], object], int]:
        """Return one round, and how many a fit takes."""
        view = self.view(task, model)
        state = at_the_start(torch.from_numpy(task.given), task.classes, self.pacing)
        return lambda: self._learnt(state, view, lambda items: None), self.rounds + 1

    def fit(self, task: PoolTask, model: Any, run: Run) -> Fit:
        """Learn from the labels that are given, from those that are asked for, and from pseudo-labels."""
        if self.tuning_every and not can_be_trained(model):
            raise UsageError(
                f"The model {model.name!r} has no weights that tuning_every={self.tuning_every} could train. "
                "Leave it at 0, or take an encoder that has some, such as conv."
            )
        state = at_the_start(torch.from_numpy(task.given), task.classes, self.pacing)
        view = self.view(task, model)
        before: Paced | None = None
        for number in range(self.rounds + 1):
            try:
                state = run.stage(f"round-{number}", partial(self.round, task, state, view, run))
            except BudgetSpent:
                if before is None:
                    raise
                break
            stays = before is not None and settled(before, state, view.inputs)
            before, trained_in = state, view
            if number == self.rounds:
                break
            told = self.asked(task, state, view.inputs, run, number)
            if told is None or (told is state and stays):
                break
            state, view = told, self.tuned(task, told, view, run, number)
        assert before is not None
        return self._result(task, state, before, trained_in, run)

    def view(self, task: PoolTask, encoder: Any) -> View:
        """Return the pool by the encoder's features, centred and scaled."""
        features = task.features(encoder)
        found = projection(features, self.components)
        return View(encoder, found, found(features))

    def round(self, task: PoolTask, state: Paced, view: View, run: Run) -> Paced:
        """Return the state after machines, pseudo-labels and weights were brought up to each other."""
        learnt = self._learnt(state, view, lambda items: task.meter.charge(samples=items))
        state = learnt.state
        scores = scores_of(state, view.inputs)
        claims = (scores > 0).sum(1)[state.open]
        held = task.evaluate(
            machine_classifier(view.encoder, view.projection, state), split="validation"
        ).values
        run.log(
            labels=int(state.annotated.sum()),
            validation_accuracy=float(np.mean(held)) if held else None,
            pseudo_labels=int((state.pseudo != UNKNOWN).sum()),
            claimed_by_none=int((claims == 0).sum()),
            claimed_by_one=int((claims == 1).sum()),
            claimed_by_several=int((claims > 1).sum()),
            age=float(state.ages.mean()),
            objectives=learnt.objectives,
        )
        return state

    def asked(
        self, task: PoolTask, state: Paced, inputs: torch.Tensor, run: Run, number: int
    ) -> Paced | None:
        """Return the state after the answers of a round, the same one where nothing is left to ask.

        None where the budget does not cover the questions.
        """
        scores = scores_of(state, inputs)
        places = self._places(state, scores, run, number)
        free = torch.ones(len(scores), dtype=torch.bool)
        free[places] = False
        doubtful = least_sure(scores, state.pseudo, free, self.confirm)
        if not task.meter.affords(oracle_labels=len(places) + len(doubtful)):
            return None
        if len(places):
            labels, classes = task.ask(
                run,
                f"query-{number}",
                places.numpy(),
                guesses=shared_out(scores[places]).softmax(1).numpy(),
                classes=state.classes,
                allow_new=self.allow_new,
            )
            state = annotated(state, places, torch.from_numpy(labels), classes, self.pacing)
        if len(doubtful):
            proposed = state.pseudo[doubtful]
            said = task.confirm(run, f"confirm-{number}", doubtful.numpy(), proposed.numpy(), state.classes)
            state = certified(state, doubtful, proposed, torch.from_numpy(said))
        return state

    def tuned(self, task: PoolTask, state: Paced, view: View, run: Run, number: int) -> View:
        """Return the pool by an encoder trained on A and H, every few rounds; else as it was."""
        if not self.tuning_every or (number + 1) % self.tuning_every:
            return view
        places = (state.by_input > 0).nonzero()[:, 0]
        targets = torch.nn.functional.one_hot(state.held[places], len(state.classes))
        head = LinearHead(width=view.encoder.width, classes=len(state.classes))
        features = task.features(view.encoder)
        head.mean, head.deviation = features.mean(0), features.std(0).clamp(min=1e-6)
        stage = Stage(
            name=f"features-{number}",
            stream=f"features-{number}",
            places=places.numpy(),
            targets=(state.by_input[places, None] * targets).float(),
            training=self.tuning,
        )
        trainer = StagedClassifier(run, inputs_of(view.encoder, task.pool, whole=True), whole=True)
        found = trainer.trained(stage, FeatureClassifier(view.encoder, head, state.classes))
        return self.view(task, found.encoder)

    def _learnt(self, state: Paced, view: View, charge: Callable[[int], object]) -> Learnt:
        return learn(state, view.inputs, self.pacing, pseudo=ARMS[self.arm].pseudo, charge=charge)

    def _places(self, state: Paced, scores: torch.Tensor, run: Run, number: int) -> torch.Tensor:
        """Return the items whose class is asked for."""
        if ARMS[self.arm].asks == "doubtful":
            return most_doubtful(scores, state.open, self.query)
        places = state.open.nonzero()[:, 0]
        count = self.query if ARMS[self.arm].asks == "random" else 0
        return places[torch.from_numpy(run.rng("random query", number).permutation(len(places))[:count])]

    def _result(self, task: PoolTask, state: Paced, trained: Paced, view: View, run: Run) -> Fit:
        """Return the machines of the last round with all that was answered."""
        names = ("labels", "validation_accuracy", "pseudo_labels", *CLAIMS)
        curve = [{name: line[name] for name in names} for line in run.metrics() if "claimed_by_one" in line]
        if ARMS[self.arm].pseudo != "none" and not state.high.any():
            _log.warning(
                "No item has a pseudo-label in the end: %d are claimed by no machine, %d by several.",
                curve[-1]["claimed_by_none"],
                curve[-1]["claimed_by_several"],
            )
        table = label_table(task, state, trained, view, empty=self.allow_new)
        pictures = [claims_picture(curve), doubtful_items(table)]
        if curve[0]["validation_accuracy"] is not None:
            points = [row["labels"] for row in curve], [row["validation_accuracy"] for row in curve]
            pictures.insert(0, learning_curve({"validation": points}))
        return Fit(
            model=machine_classifier(view.encoder, view.projection, trained),
            parts={"labels": table, "paced": state},
            metrics={
                "labels": int(state.annotated.sum()),
                "pseudo_labels": int((state.pseudo != UNKNOWN).sum()),
                "classes": len(state.classes),
                "claimed_by_none": curve[-1]["claimed_by_none"],
                "curve": curve,
            },
            pictures=pictures,
        )


def label_table(task: PoolTask, state: Paced, trained: Paced, view: View, *, empty: bool) -> LabelTable:
    """Return the label of each item; with `empty`, none where no machine claims it.

    Args:
        task: whose pool it is.
        state: with all answers.
        trained: with the machines.
        view: that they were trained in.
        empty: whether such an item may be of a class that there is not yet.
    """
    scores = scores_of(trained, view.inputs)
    told = shared_out(scores).softmax(1).max(1)
    unclaimed = (scores <= 0).all(1) & empty
    labels = torch.where(unclaimed, UNKNOWN, told.indices)
    sources = np.full(len(labels), PREDICTED, dtype=object)
    own, answered = state.by_input > 0, state.annotated
    labels = torch.where(own, state.held, labels)
    sources[own.numpy()] = PSEUDO
    sources[answered.numpy()] = task.answered_by
    sources[state.confirmed.numpy()], sources[task.labelled] = CONFIRMED, GIVEN
    confidence = torch.where(answered, 1.0, told.values).numpy()
    return task.label_table(labels.numpy(), confidence, sources, classes=state.classes)
