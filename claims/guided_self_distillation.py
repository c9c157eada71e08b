"""What one guided step of self-distillation is worth: of kernel ridge regression, and of a network.

"kernel": scikit-learn's table of 442 patients, all columns and the number that is told standardised, 150
training rows, 100 held-out ones that tell the weight, 192 test rows, drawn anew for each of 20 seeds; a
Gaussian kernel with gamma 0.03 and seven penalties. Figures are squared errors on test rows, negative, over
the number's variance. The weight is not clipped to 0 to 1; figures with it clipped stand beside. Of the
penalties 1 was the best in the splits of seeds 100 to 119, so that 0.3 and 3 are off by three times.

"network": 3,000 images of Fashion-MNIST with a fifth of the labels wrong, a fifth of the images held apart
(their labels are as wrong as the others'); a perceptron of two layers of 128 that is held to the squared
error of its probabilities, 50 epochs of SGD. All trainings of a seed have the same first weights and the same
images in the same order. The grid has the weights 0, 0.1, ... 1; the estimate costs two trainings beside the
teacher's. "again" trains on the labels alone twice more, from other first weights and in another order, and
takes the one with the best accuracy on held-out images. Figures are those of 10,000 test images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes

import selfstudy
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.learning.kernel_self_distillation import KernelSelfDistiller
from selfstudy.learning.supervised import Supervised, held_apart
from selfstudy.methods.distillation.guided_self_distillation import GuidedSelfDistillation
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.kernels import named_kernel

FIT, HELD, GAMMA, BEST = 150, 100, 0.03, 1.0
PENALTIES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
OFF = tuple(lam for lam in PENALTIES if max(lam / BEST, BEST / lam) >= 3)
NEAR, POINTS = 0.01, 0.003
GRID = tuple(round(0.1 * tenth, 1) for tenth in range(11))
PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
TRAINING = Supervised(steps=1880, batch=64, learning_rate=0.1, views=PLAIN)
ESTIMATE, CHOSEN, MOST = "estimated weight", "grid, chosen on held-out images", "grid, best on test images"


def kernel_seed(seed: int, run: Run) -> Values:
    """Return the errors of ridge regression and of one guided step, by penalty."""
    found = load_diabetes()
    rows = (found.data - found.data.mean(0)) / found.data.std(0)
    wanted = (found.target - found.target.mean()) / found.target.std()
    order = generator("guided claim", seed).permutation(len(rows))
    fit, held, test = np.split(order, [FIT, FIT + HELD])
    start = KernelSelfDistiller(named_kernel("rbf", GAMMA), BEST).fit(rows[fit], wanted[fit])

    def error(told: np.ndarray) -> float:
        return -float(np.mean((told - wanted[test]) ** 2))

    values: Values = {}
    for lam in PENALTIES:
        ridge = start.with_penalty(lam)
        values[f"ridge, {lam:g}"] = error(ridge.predict(rows[test]))
        for name, clip in (("one step", None), ("one step within 0 to 1", (0.0, 1.0))):
            alpha = ridge.optimal_alpha(rows[held], wanted[held], 2, clip)
            told = ridge.predict(rows[test], 2, alpha, allow_extrapolation=True)
            values[f"{name}, {lam:g}"] = error(told)
            if clip is None:
                values[f"one step, {lam:g}, plus 0.01"] = error(told) + NEAR
                values[f"weight, {lam:g}"] = alpha
    return values


def network_seed(seed: int, beside: Run, split: str = "test") -> Values:
    """Return what the estimate, the grid and training again reach; kept beside the claims that share them."""
    task = selfstudy.task(f"fashion-mnist?labels=3000&train=0&noise=0.2&draw={seed}")
    start = task.prepared(selfstudy.model(f"mlp?seed={seed}"))
    method = GuidedSelfDistillation(training=TRAINING)
    _, images, held = held_apart(task.labelled, method.held_out)
    assert held is not None
    folder = beside.directory.parents[1] / "trainings"

    def look(found: ImageClassifier) -> dict[str, float]:
        told = found.classify(held.pixels(slice(None))).numpy()
        judged = task.judged(found, split=split)
        accuracy, squared = float(judged.right.mean()), float(judged.squared.mean())
        return {"held": float((told == held.labels).mean()), "accuracy": accuracy, "squared": squared}

    def trained(run: Run, name: str, *guide: Any) -> tuple[ImageClassifier, dict[str, float]]:
        found = run.stage(name, lambda: method.trained(start, images, run, *guide))
        return found, run.stage(f"{name}, looked at", lambda: look(found))

    with Run(folder / f"seed-{seed}", {}, seed=seed) as run:
        first, one = trained(run, "first fit")
        alone, zero = trained(run, "weight 0", first, 0.0)
        grid = {0.0: zero, 1.0: one}  # with a weight of 1 the loss is the first fit's
        for weight in GRID[1:-1]:
            grid[weight] = trained(run, f"weight {weight}", first, weight)[1]
        alpha = run.stage("estimate", lambda: method.weight(first, alone, held))
        estimated = trained(run, "estimated", first, alpha)[1]
    again = [one]
    for other in (1, 2):
        with Run(folder / f"seed-{seed}-again-{other}", {}, seed=1000 * other + seed) as run:
            fresh = task.prepared(selfstudy.model(f"mlp?seed={1000 * other + seed}"))
            found = run.stage("fit", lambda fresh=fresh, run=run: method.trained(fresh, images, run))  # type: ignore[misc]
            again.append(run.stage("looked at", lambda found=found: look(found)))  # type: ignore[misc]
    arms = {
        ESTIMATE: estimated,
        CHOSEN: max(grid.values(), key=lambda seen: seen["held"]),
        MOST: max(grid.values(), key=lambda seen: seen["accuracy"]),
        "first fit": one,
        "again, chosen on held-out images": max(again, key=lambda seen: seen["held"]),
        **{f"weight {weight}": grid[weight] for weight in GRID[:-1]},
    }
    values: Values = {"the estimated weight": alpha}
    for name, seen in arms.items():
        values[f"accuracy, {name}"] = seen["accuracy"]
        values[f"-squared error, {name}"] = -seen["squared"]
    values[f"accuracy, {ESTIMATE}, plus 0.3 points"] = estimated["accuracy"] + POINTS
    return values


CLAIMS = [
    Claim(
        name="A-better-than-ridge",
        statement="Where the penalty is off by three times or more, one guided step is better than ridge "
        "regression.",
        seeds=range(20),
        measure=kernel_seed,
        relations=[Relation(f"penalty {lam:g}", f"one step, {lam:g}", f"ridge, {lam:g}") for lam in OFF],
        share=False,
    ),
    Claim(
        name="A-near-the-best-ridge",
        statement="There one guided step is within 0.01 of ridge regression with the best penalty.",
        seeds=range(20),
        measure=kernel_seed,
        relations=[
            Relation(f"penalty {lam:g}", f"one step, {lam:g}, plus 0.01", f"ridge, {BEST:g}") for lam in OFF
        ],
        share=False,
    ),
    Claim(
        name="B-estimate-against-grid",
        statement="A network distilled with the estimated weight is within 0.3 points of one with the weight "
        "that a grid of eleven finds on the same held-out images, at two trainings for eleven.",
        seeds=range(5),
        measure=network_seed,
        relations=[
            Relation("within 0.3 points", f"accuracy, {ESTIMATE}, plus 0.3 points", f"accuracy, {CHOSEN}")
        ],
        share=False,
    ),
    Claim(
        name="B-estimate-against-the-best",
        statement="It is within 0.3 points of the weight of the grid that is best on the test images of each "
        "seed, which nobody could have chosen.",
        seeds=range(5),
        measure=network_seed,
        relations=[
            Relation("within 0.3 points", f"accuracy, {ESTIMATE}, plus 0.3 points", f"accuracy, {MOST}")
        ],
        share=False,
    ),
]
