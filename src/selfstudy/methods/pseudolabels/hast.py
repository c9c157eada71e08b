"""HAST: active learning that also trains on what the classifier and its neighbourhoods agree on.

Schröder and Heyer 2024, "Self-Training for Sample-Efficient Active Learning for Text Classification with
Pre-Trained Language Models", arXiv 2406.09206. Pick it for texts with a good sentence encoder, when somebody
can be asked for 50 to 200 labels. Plain active learning (`pseudo.selector none`) asks the same number and
learns from the labels alone; thresholds on confidence find few pseudo-labels while the classifier is weak.

Deviations from the paper: what is tuned is a linear adapter on frozen features, unless `classifier` says that
the whole encoder is; every fit takes the same number of pairs (`adapter.pairs None` counts them as the
authors do); weights are scaled to a mean of 1 (`adapter.scaling sum` is the authors'); equal inputs are one
when neighbours vote; Monte Carlo passes of the adapter take the same networks for all items. Of the
strategies it is compared with, UST keeps its places within the sample, VERIPS' margin is that of the two most
likely classes, NeST takes what diverges least and gives labels and pseudo-labels half of the weight each,
AcTune looks at predicted classes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.items import Texts, first_equal
from selfstudy.data.label_table import GIVEN, PREDICTED, PSEUDO, LabelTable
from selfstudy.evaluation.labelling_pictures import doubtful_items, learning_curve
from selfstudy.evaluation.pictures import Picture, bars, picture
from selfstudy.learning.loops import check_positive
from selfstudy.learning.pair_tuning import PairTuning
from selfstudy.learning.pool_learners import AdapterLearner, Learner
from selfstudy.learning.self_training import Known, Round, candidates_of, evidence_of
from selfstudy.learning.text_fine_tuning import TextFineTuning
from selfstudy.learning.text_learners import TextLearner
from selfstudy.learning.text_tuning import SetFitTuning
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.models.encoders.text_transformers import TextTransformer
from selfstudy.signals.evidence import PseudoLabels
from selfstudy.signals.pseudo_labels import select
from selfstudy.signals.queries import QueryName, query
from selfstudy.tasks.pools import PoolTask, require_given


@dataclass(frozen=True, kw_only=True)
class Hast(Method):
    """Ask for labels in rounds; in each, train also on labels of its own (Schröder and Heyer 2024)."""

    works_on = (PoolTask, (FlatEncoder, TextEncoder, ImageEncoder))

    queries: int = 10
    """Q, rounds of asking."""
    batch: int = 10
    """B, labels asked for in a round."""
    query: QueryName = "breaking-ties"
    """Which items are asked for."""
    subsample: int = 16384
    """Most unlabelled items that pseudo-labels are chosen from, drawn anew in each round."""
    pseudo: PseudoLabels = field(default_factory=PseudoLabels)
    """Which pseudo-labels are taken, and how much they weigh."""
    classifier: Literal["adapter", "setfit", "fine-tuning"] = "adapter"
    """What is trained: an adapter on the frozen encoder's features, or the whole encoder, on pairs or by
    cross-entropy."""
    adapter: PairTuning = field(default_factory=PairTuning)
    """Of an adapter, and of its logistic head."""
    setfit: SetFitTuning = field(default_factory=SetFitTuning)
    """Of a text encoder on pairs."""
    fine_tuning: TextFineTuning = field(default_factory=TextFineTuning)
    """Of a text encoder by cross-entropy."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, queries=-1, batch=0, subsample=1)
        for settings in (self.pseudo, self.adapter, self.setfit, self.fine_tuning):
            settings.validate()

    def cost(self, task: PoolTask, model: Any) -> dict[str, float]:
        """Return what a fit spends at most, by budget unit."""
        labelled = len(task.labelled) + self.batch * np.arange(self.queries + 1)
        labelled = np.minimum(labelled, len(task.pool))
        pseudo = np.minimum(len(task.pool) - labelled, self.subsample)
        fits = [(labels, 0) for labels in labelled] + list(zip(labelled, pseudo, strict=True))
        if self.pseudo.selector == "verips":
            fits += [(labels, 0) for labels in labelled]
        samples = sum(self._settings.samples(int(labels), int(more)) for labels, more in fits)
        return {"samples": float(samples), "oracle_labels": float(labelled[-1] - len(task.labelled))}

    def trial(self, task: PoolTask, model: Any) -> tuple[Callable[[], object], int]:
        """Return one step of training on the labels that are there, and how many a fit takes at least."""
        at = task.labelled
        step, count = self.learner(task, model).trial(at, task.given[at])
        return step, 2 * (self.queries + 1) * count

    def fit(self, task: PoolTask, model: Any, run: Run) -> Fit:
        """Train a classifier on the labels that are given, on those that are asked for, and on its own."""
        require_given(task)
        learner = self.learner(task, model)
        known, rounds = self.rounds(task, learner, run)
        final = rounds[-1]
        table = label_table(task, learner, known, final)
        pictures = [pseudo_label_picture(rounds, task.classes), doubtful_items(table)]
        if final.accuracy is not None:
            curve = [one.labelled for one in rounds], [one.accuracy or 0.0 for one in rounds]
            pictures.insert(0, learning_curve({"validation": curve}))
        return Fit(
            model=learner.classifier(final.trained),
            parts={"labels": table},
            metrics={
                "labels": final.labelled,
                "pseudo_labels": len(final.places),
                "curve": [
                    {
                        "labels": one.labelled,
                        "validation_accuracy": one.accuracy,
                        "pseudo_labels": len(one.places),
                        "status": one.status,
                    }
                    for one in rounds
                ],
            },
            pictures=pictures,
        )

    def rounds(self, task: PoolTask, learner: Learner, run: Run) -> tuple[Known, list[Round]]:
        """Return what is known in the end, and what came of each round; each is a stage, each query too."""
        known = Known(task.given, np.zeros(len(task.pool), dtype=bool), first_equal(task.pool))
        rounds: list[Round] = []
        for number in range(self.queries + 1):
            try:
                work = partial(self.round, task, learner, known, number, run)
                found = run.stage(f"round-{number}", work)
            except BudgetSpent:
                if not rounds:
                    raise
                break
            rounds.append(found)
            run.log(
                labels=found.labelled, pseudo_labels=len(found.places), validation_accuracy=found.accuracy
            )
            if not len(found.asked) or not task.meter.affords(oracle_labels=len(found.asked)):
                break
            answers, _ = task.ask(run, f"query-{number}", found.asked, guesses=found.guesses.numpy())
            known = replace(known.answered(found.asked, answers), remembered=found.remembered)
        return known, rounds

    def round(self, task: PoolTask, learner: Learner, known: Known, number: int, run: Run) -> Round:
        """Train on labels alone, then on pseudo-labels too; choose what to ask for."""
        passes, progress = self.pseudo.passes, number / max(1, self.queries)
        at, labels = known.labelled, known.labels[known.labelled]
        first = learner.train(at, labels, np.ones(len(at)), run, ("labels alone", number))
        sample = np.sort(run.rng("sample", number).permutation(known.unlabelled)[: self.subsample])
        evidence = evidence_of(learner, first, known, sample, run, number, progress=progress, passes=passes)
        selection, status = select(evidence, self.pseudo)
        second = learner.train(
            np.concatenate([at, sample[selection.places]]),
            np.concatenate([labels, selection.labels]),
            np.concatenate([selection.labelled_weights, selection.weights]),
            run,
            ("self-training", number),
            pseudo=len(selection.places),
            dropout=selection.dropout,
        )
        asked = np.empty(0, dtype=np.int64)
        if number < self.queries:
            seen = candidates_of(learner, second, known, run, number, passes=passes)
            asked = known.open[query(self.query, seen, self.batch)]
        held: tuple[float, ...] = ()
        if task.held("validation"):
            held = task.evaluate(learner.classifier(second), split="validation").values
        return Round(
            trained=second,
            labelled=len(at),
            places=sample[selection.places],
            labels=selection.labels,
            status=status,
            accuracy=float(np.mean(held)) if held else None,
            asked=asked,
            guesses=learner.look(second, asked).probabilities,
            remembered=known.memory(selection, sample),
        )

    def learner(self, task: PoolTask, model: Any) -> Learner:
        """Return what trains classifiers of the task's pool, each from the same start.

        Raises:
            UsageError: the whole encoder is to be trained, and it is none of texts that can be.
        """
        settings = self._settings
        if isinstance(settings, PairTuning):
            return AdapterLearner(model, task.features(model), task.classes, settings)
        if not isinstance(model, TextTransformer) or not isinstance(task.pool, Texts):
            raise UsageError(
                f"classifier={self.classifier} trains a whole encoder of texts, such as minilm or text:ID, "
                f"not {model.name} on {task.pool.name}. Take one on texts, or classifier=adapter."
            )
        return TextLearner(model, task.pool, task.classes, settings)

    @property
    def _settings(self) -> PairTuning | SetFitTuning | TextFineTuning:
        by_name: dict[str, PairTuning | SetFitTuning | TextFineTuning] = {
            "adapter": self.adapter,
            "setfit": self.setfit,
            "fine-tuning": self.fine_tuning,
        }
        return by_name[self.classifier]


def label_table(task: PoolTask, learner: Learner, known: Known, final: Round) -> LabelTable:
    """Return the label of each item, by a person, by the task, or by the final classifier."""
    probabilities = learner.look(final.trained, np.arange(len(task.pool))).probabilities
    labels, confidence = probabilities.argmax(1).numpy(), probabilities.max(1).values.numpy().astype(float)
    sources = np.full(len(labels), PREDICTED, dtype=object)
    labels[final.places], sources[final.places] = final.labels, PSEUDO
    at = known.labelled
    labels[at], confidence[at], sources[at] = known.labels[at], 1.0, task.answered_by
    sources[task.labelled] = GIVEN
    return task.label_table(labels, confidence, sources)


def pseudo_label_picture(rounds: Sequence[Round], classes: Sequence[str]) -> Picture:
    """Return how many pseudo-labels of each class each round had."""
    counts = np.stack([np.bincount(one.labels, minlength=len(classes)) for one in rounds])
    names = [str(one.labelled) for one in rounds]
    traces = [bars(name, names, counts[:, code]) for code, name in enumerate(classes)]
    return picture(
        "Pseudo-labels",
        traces,
        x="labels",
        y="pseudo-labels",
        note="How many items each round learnt from with its own label, by class.",
        layout={"barmode": "stack", "xaxis": {"type": "category"}},
    )
