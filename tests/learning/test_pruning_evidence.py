"""The trainings behind pruning scores: what they see, what they cost, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.data.views import ImageViews
from selfstudy.learning import supervised
from selfstudy.learning.pruning_evidence import halves, pruning_scores, scoring_cost, scoring_steps
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.models.encoders.perceptron import PerceptronEncoder
from selfstudy.signals.pruning_scores import PRUNERS, ForgettingCounter, el2n

OpenRun = Callable[..., Run]
PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
SHORT = Supervised(steps=5, batch=8, views=PLAIN)
FULL = Supervised(steps=12, batch=8, views=PLAIN)
PLANS: dict[str, Any] = {"short": SHORT, "full": FULL, "runs": 2}


def some(count: int = 30) -> ImageSet:
    return image_splits("digits")["train"].only(slice(count))


def encoder(images: ImageSet) -> PerceptronEncoder:
    return PerceptronEncoder(hidden=8, layers=1).made_for(images)


@pytest.mark.parametrize("name", PRUNERS)
def test_scores_and_what_they_cost(name: str, open_run: OpenRun) -> None:
    """Oracle: one number an image, the same again when the run is gone through again; the meter's figures
    are those that were told ahead."""
    images = some()
    run = open_run("run")
    found = pruning_scores(run, name, encoder(images), images, **PLANS)
    assert found.shape == (30,) and not np.isnan(found).any()
    spent, told = run.meter.snapshot(), scoring_cost(name, encoder(images), images, **PLANS)
    assert spent["samples"] == told["samples"] == 8 * scoring_steps(name, **PLANS)
    assert spent["flops"] == pytest.approx(told["flops"])
    again = open_run("run")
    assert pruning_scores(again, name, encoder(images), images, **PLANS).tolist() == found.tolist()
    assert again.meter.snapshot()["flops"] == pytest.approx(told["flops"])


def test_el2n_is_the_mean_over_short_runs(open_run: OpenRun) -> None:
    """Oracle: two classifiers trained by hand under the names of the short runs."""
    images = some()
    found = pruning_scores(open_run("a"), "el2n", encoder(images), images, **PLANS)
    run = open_run("b")
    single = []
    for number in range(2):
        one = run.stage(
            f"s{number}",
            lambda n=number: train_classifier(run, encoder(images), images, SHORT, desc=f"short run {n}"),  # type: ignore[misc]
        )
        p = one.scores(images.pixels(slice(None))).softmax(1)
        single.append(el2n(p, torch.from_numpy(images.labels)))
    assert not np.allclose(single[0], single[1])
    assert np.allclose(found, np.mean(single, axis=0), atol=1e-6)


def test_forgetting_survives_a_stop(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a run that fails in the middle and goes on gives the scores of one that does not."""
    images = some()
    whole = pruning_scores(open_run("whole"), "forgetting", encoder(images), images, **PLANS)
    see, calls = ForgettingCounter.see, []

    def failing(self: ForgettingCounter, *given: Any) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        see(self, *given)

    monkeypatch.setattr(ForgettingCounter, "see", failing)
    with pytest.raises(KeyboardInterrupt):
        pruning_scores(open_run("cut"), "forgetting", encoder(images), images, **PLANS)
    resumed = pruning_scores(open_run("cut"), "forgetting", encoder(images), images, **PLANS)
    assert resumed.tolist() == whole.tolist()
    assert len(calls) < 8 + 12  # it went on, and did not begin again
    assert len(set(whole.tolist())) > 1


def test_halves_are_complements_and_the_runs_see_no_more(
    open_run: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: each run draws from 15 or 16 of 31 images; each image is seen by one run of each pair; pairs
    differ; wrong labels are memorised more than others."""
    images, sizes = some(31), []
    drawn = supervised.batch_indices

    def noted(run: Run, name: str, step: int, samples: int, batch: int) -> np.ndarray:
        sizes.append(samples)
        return drawn(run, name, step, samples, batch)

    monkeypatch.setattr(supervised, "batch_indices", noted)
    seen = halves(5, 31, 3)
    assert seen.shape == (6, 31) and set(seen.sum(1).tolist()) == {15, 16}
    assert (seen[::2] ^ seen[1::2]).all() and not (seen[0] == seen[2]).all()
    labels = images.labels.copy()
    labels[:4] = (labels[:4] + 1) % 10
    changed = ImageSet(images.name, images.images, labels, images.classes)
    plans = {**PLANS, "short": replace(SHORT, steps=60), "runs": 2}
    wide = PerceptronEncoder(hidden=32, layers=1).made_for(images)
    found = pruning_scores(open_run("a"), "memorisation", wide, changed, **plans)
    assert set(sizes) == {15, 16} and len(sizes) == 4 * 60
    assert found[:4].mean() > found[4:].mean() + 0.2


def test_a_full_run_sees_all_images(open_run: OpenRun) -> None:
    """Oracle: scores and cost of a run that holds nothing out; one of less than a pass is warned of."""
    images, plans = some(), {**PLANS, "full": replace(FULL, held_out=0.5)}
    whole = pruning_scores(open_run("a"), "forgetting", encoder(images), images, **PLANS)
    run = open_run("b")
    found = pruning_scores(run, "forgetting", encoder(images), images, **plans)
    assert found.tolist() == whole.tolist()
    told = scoring_cost("forgetting", encoder(images), images, **plans)
    assert run.meter.snapshot()["flops"] == pytest.approx(told["flops"])
    short = {**PLANS, "full": replace(FULL, steps=3)}
    with pytest.warns(UserWarning, match="3 steps of 8 images does not see all 30"):
        pruning_scores(open_run("c"), "forgetting", encoder(images), images, **short)


def test_nothing_else_is_looked_at(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: random scores take no training at all; a short run draws from the labelled images alone."""
    images, drawn = some(), []
    draw = supervised.batch_indices

    def noted(run: Run, name: str, step: int, samples: int, batch: int) -> np.ndarray:
        drawn.append(samples)
        return draw(run, name, step, samples, batch)

    monkeypatch.setattr(supervised, "batch_indices", noted)
    pruning_scores(open_run("a"), "random", encoder(images), images, **PLANS)
    assert not drawn
    pruning_scores(open_run("b"), "margin", encoder(images), images, **PLANS)
    assert set(drawn) == {30} and len(drawn) == 10


def test_a_function_that_gives_too_few(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: refused by the name of the pruner."""
    monkeypatch.setitem(PRUNERS, "own", PRUNERS["random"]._replace(score=lambda evidence: [1.0, 2.0]))
    with pytest.raises(DataError, match="'own' gave scores of the shape"):
        pruning_scores(open_run("a"), "own", encoder(some()), some(), **PLANS)
