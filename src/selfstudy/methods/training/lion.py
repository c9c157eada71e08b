"""Lion: train by the sign of an interpolated momentum, or by an update rule that evolution finds.

Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le 2023, "Symbolic Discovery of
Optimization Algorithms", arXiv 2302.06675. Pick Lion over AdamW where the memory of the optimiser counts,
which it halves, or where batches are large; take a rate 3 to 10 times smaller and a decay as many times
larger. In a few hundred steps AdamW gets further. Every other method takes it by `optimizer: lion` in its
settings. Pick the search to look for a rule of one's own: it costs hundreds to thousands of small trainings.

Deviations from the paper: 42 functions, chosen after the paper's description, not its list of 45; one
population, not five in parallel, with rounds that start anew from the best so far where `search.patience`
says so; proxies are perceptrons on small versions of the task's own labelled images; a program is trained
`search.draws` times on the proxy, and three times in the funnel, whose stages are larger by factors of the
settings; the rate falls along half a cosine for all programs; programs that are the same by algebra alone
are told apart, as the hash is symbolic; a run of many machines is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.pictures import Picture, line, picture
from selfstudy.learning.loops import check_positive
from selfstudy.learning.program_optimizer import ProgramOptimizer
from selfstudy.learning.supervised import (
    OptimizerMaker,
    Supervised,
    new_classifier,
    plain_losses,
    require_labels,
    share_right,
    step_cost,
    supervise,
    trial_step,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.search.proxy_tasks import PerceptronProxy, standardised
from selfstudy.search.update_rules import FoundRule, search_cost, search_update_rule, starting_program
from selfstudy.tasks.images import ImageTask

SIDE = 8  # pixels of an image on the proxies, at most
FEWEST = 20  # labelled images that can be split into some to train on and some to judge by
KNOWN = 2000  # labelled images that the classifier is asked for in the end


@dataclass(frozen=True, kw_only=True)
class RuleSearch:
    """How an update rule is searched for."""

    budget: int = 300
    """Programs to train on the proxy."""
    population: int = 50
    """P, members of the population; the paper takes 1000."""
    tournament: int = 10
    """T, members that a parent is the best of."""
    warm_start: str = "adamw"
    """What the population starts as: "adamw", "lion", or the text of a program."""
    draws: int = 1
    """Trainings of a program on the proxy, whose mean loss counts."""
    patience: int | None = None
    """Programs without a better one after which a new round starts from the best; None never does."""
    longest: int = 30
    """Lines that a program may have."""
    hidden: int = 32
    """Width of the proxy, a perceptron with one hidden layer."""
    steps: int = 60
    """Steps of a training on the proxy."""
    batch: int = 64
    """Images a step."""
    images: int = 2000
    """Labelled images that the search may use, at most; three in ten are held out."""
    funnel: tuple[int, ...] = (2, 6)
    """How many times wider and longer than the proxy each stage of the selection is."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, budget=0, population=0, tournament=0, draws=0, patience=0, longest=0)
        check_positive(self, hidden=0, steps=0, batch=0, images=FEWEST - 1)
        if any(factor < 1 for factor in self.funnel):
            raise UsageError(f"RuleSearch.funnel is {self.funnel}; its factors must be at least 1.")
        starting_program(self.warm_start)


@dataclass(frozen=True, kw_only=True)
class LionTraining(Method):
    """Train a classifier by Lion, or by an update rule found for it (Chen et al. 2023)."""

    works_on = (ImageTask, ImageEncoder)

    rule: Literal["lion", "search"] = "lion"
    """What moves the weights: the optimiser of `training`, or the rule that is found first."""
    training: Supervised = field(
        default_factory=lambda: Supervised(optimizer="lion", learning_rate=1e-3, weight_decay=0.1)
    )
    """Steps, batches, rate and decay. A rule that was found has a rate and a decay of its own, and takes the
    schedule alone."""
    search: RuleSearch = field(default_factory=RuleSearch)
    """Of the rule."""

    def validate(self) -> None:
        """Check the fields against each other."""
        if self.rule not in ("lion", "search"):
            raise UsageError(f"There is no rule {self.rule!r}; it is lion or search.")
        self.training.validate()
        self.search.validate()

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit; a search is counted at its most."""
        require_labels(task.labelled)
        batch = self.training.batch_of(task.labelled)
        cost = {unit: self.training.steps * amount for unit, amount in step_cost(model, batch).items()}
        if self.rule == "search":
            proxy, *larger = self._proxies(task.labelled)
            spent = search_cost([proxy], [[stage] for stage in larger], self.search.budget, self.search.draws)
            cost = {unit: amount + spent[unit] for unit, amount in cost.items()}
        return cost

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes; a search comes on top."""
        classifier = new_classifier(model, task.labelled)
        step = trial_step(classifier, plain_losses(classifier), task.labelled, self.training)
        return step, self.training.steps

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Train a copy of `model`, and a head, on the labelled images of `task`."""
        require_labels(task.labelled)
        found: FoundRule | None = None
        if self.rule == "search":
            found = run.stage("rule", lambda: self.found(task.labelled, run))
        classifier = run.stage("classifier", lambda: self.trained(task, model, run, found))
        known = task.labelled.only(slice(KNOWN))
        metrics: dict[str, Any] = {"labelled_images_right": share_right(classifier, known)}
        if len(task.validation):
            measured = task.evaluate(classifier, split="validation")
            metrics["validation"] = task.metric.row(measured.values)
        if found is None:
            return Fit(model=classifier, metrics=metrics)
        metrics |= {f"search, {name}": value for name, value in found.cache_stats.items()}
        return Fit(
            model=classifier, metrics=metrics, parts={"rule": found}, pictures=[history_picture(found)]
        )

    def found(self, labelled: ImageSet, run: Run) -> FoundRule:
        """Return the rule that evolution finds on small versions of labelled images; within a stage."""
        proxy, *larger = self._proxies(labelled)
        settings = self.search
        return search_update_rule(
            [proxy],
            [[stage] for stage in larger],
            settings.budget,
            settings.population,
            settings.tournament,
            settings.warm_start,
            draws=settings.draws,
            patience=settings.patience,
            longest=settings.longest,
            run=run,
        )

    def trained(
        self, task: ImageTask, model: ImageEncoder, run: Run, found: FoundRule | None = None
    ) -> ImageClassifier:
        """Return the trained classifier; within a stage."""
        classifier = new_classifier(model, task.labelled, run.key("heads"))
        maker = found_rule_maker(found) if found else None
        losses = plain_losses(classifier)
        supervise(run, classifier, losses, task.labelled, self.training, optimizer_maker=maker)
        return classifier

    def _proxies(self, labelled: ImageSet) -> list[PerceptronProxy]:
        """Return the proxy and the larger stages, all on the same images."""
        if len(labelled) < FEWEST:
            raise DataError(
                f"{labelled.name!r} has {len(labelled)} labelled images. A search judges rules by them and "
                f"needs {FEWEST} or more; without it, take --rule lion."
            )
        order = generator("proxy images", len(labelled)).permutation(len(labelled))[: self.search.images]
        pixels = labelled.pixels(np.sort(order))
        side = min(SIDE, *pixels.shape[2:])
        inputs = functional.adaptive_avg_pool2d(pixels, side).flatten(1).numpy()  # [n, C * side * side]
        labels, split = torch.from_numpy(labelled.labels[np.sort(order)]), round(0.7 * len(order))
        mixed = generator("proxy split", len(order)).permutation(len(order))
        fit, held = mixed[:split], mixed[split:]
        first, second = standardised(inputs[fit], inputs[held])
        return [
            PerceptronProxy(
                name=f"{labelled.name} x {factor}",
                train=(first, labels[fit]),
                held=(second, labels[held]),
                hidden=factor * self.search.hidden,
                steps=factor * self.search.steps,
                batch=self.search.batch,
            )
            for factor in (1, *self.search.funnel)
        ]


def found_rule_maker(found: FoundRule) -> OptimizerMaker:
    """Return what makes the optimiser of a rule that was found; the schedule's share is its rate."""

    def make(groups: list[dict[str, Any]]) -> ProgramOptimizer:
        weights = [weight for group in groups for weight in group["params"]]
        return ProgramOptimizer([{"params": weights, "peak": 1.0}], found.simplified_program)

    return make


def history_picture(found: FoundRule) -> Picture:
    """Return the best loss on the proxy over the programs that were trained."""
    return picture(
        "The search for an update rule",
        [line("best so far", range(len(found.history)), found.history)],
        x="programs trained",
        y="held-out loss on the proxy",
        note=f"What came out, in its short form:\n{found.simplified_program}",
    )
