"""What Loki's rule gains where labels have distances and a part of them was observed.

Turned digits: 500 images to learn from at every 6th or 9th of 37 angles, a perceptron of 256 hidden units,
10 passes of AdamW at 2e-3 in batches of 64; 302 other images at all angles to test on. The seed draws which
images are which, the first weights and the order. Questions: those of TREC, whose 50 fine classes are leaves
below six coarse ones, 25 of them observed, drawn by the seed; logistic regression on frozen MiniLM features.
Intents: questions to a bank of 77 intents, 38 of them observed, drawn by the seed; without any label, by how
like MiniLM's embedding of the intent's name is; the metric is 1 - cosine of the names' embeddings around
their mean.

All rules of a seed read the same probabilities, at temperature 1 unless a fitted one is named; that is fitted
on validation items of observed labels. Relations compare gains, 1 - loki / other, of mean squared distances.
On trees of 40 nodes, random parents, two observed nodes get eight more one by one; "cover" is how many nodes
more are reached, per node that was added.

Set on validation items with seeds 100 to 102, before any test item was looked at: the embeddings around their
mean and not as they are, compared by 1 - cosine and not by the Euclidean distance or the angle, and 0.07 for
the temperature of the softmax over names, of 0.02 to 0.2. The perceptron takes pixels as they are, from 0 to
1. Brought to one scale it was better at seed 100, at which Loki's squared distance was 12.9 in the place of
19.1 with every 6th angle, the gain over the restricted Bayes rule 10 % in the place of 8 %, and angles that
were not observed were told right less often, 4.6 % in the place of 7.3 %; the plain one was kept.
"""

from __future__ import annotations

import functools

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.label_distances import ARGMAX, FITTED, LOKI, RESTRICTED, compared_rules
from selfstudy.learning.label_heads import name_head, trained_head
from selfstudy.learning.stages import StageTraining
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead
from selfstudy.models.encoders.features import features_of
from selfstudy.models.labels.building import edges_space
from selfstudy.models.labels.files import name_space, spoken
from selfstudy.models.labels.locus import next_classes, tree_locus
from selfstudy.models.temperature_scaling import fitted_temperature
from selfstudy.tasks.label_metrics import GradedTask, graded_task

EPOCHS, BATCH, RATE, HIDDEN = 10, 64, 2e-3, 256
NODES, FIRST, ADDED = 40, 2, 8  # of the random trees
TREES = 50


def rules(task: GradedTask, classifier: FeatureClassifier, split: str = "test") -> Values:
    """Return the squared distance of each rule on a split, the gains of Loki, and accuracies."""
    observed = task.observed
    assert classifier.classes == tuple(task.classes[label] for label in observed)
    seen, held = task.validation_items, task._held[split]
    known = np.flatnonzero(np.isin(seen.labels, observed))
    columns = np.searchsorted(observed, seen.labels[known])
    fitted = fitted_temperature(classifier.scores(seen.only(known)), columns)
    ways = compared_rules(task.space, observed, classifier.scores(held), held.labels, fitted=fitted)
    mean = {way: float(costs.squared.mean()) for way, costs in ways.items()}
    values: Values = {f"squared distance, {way}": value for way, value in mean.items()}
    for way, costs in ways.items():
        values[f"accuracy, {way}"] = costs.accuracy
        values[f"accuracy on labels not observed, {way}"] = costs.unseen_accuracy
    values["gain over argmax"] = 1 - mean[LOKI] / mean[ARGMAX]
    values["gain over the restricted Bayes rule"] = 1 - mean[LOKI] / mean[RESTRICTED]
    values["gain over Loki at the fitted temperature"] = 1 - mean[LOKI] / mean[FITTED]
    return {**values, "fitted temperature": fitted}


def turned(seed: int, run: Run, *, every: int, full: bool = False, split: str = "test") -> Values:
    """Measure one seed of the turned digits."""
    task = selfstudy.task(f"rotated-digits?every={every}&full={str(full).lower()}&draw={seed}")
    encoder = task.prepared(selfstudy.model("flat"))
    at, observed = task.labelled, task.observed
    features = features_of(encoder, task.pool.only(at))
    steps = EPOCHS * len(at) // BATCH
    head = MlpHead(width=features.shape[1], hidden=[HIDDEN], classes=len(observed), key=run.key("head"))
    plan = StageTraining(steps=steps, batch=BATCH, learning_rate=RATE)
    trained_head(run, head, features, np.searchsorted(observed, task.given[at]), plan)
    names = tuple(task.classes[label] for label in observed)
    return rules(task, FeatureClassifier(encoder, head, names).eval(), split)


def questions(seed: int, run: Run, split: str = "test") -> Values:
    """Measure one seed of the fine classes of TREC."""
    task = selfstudy.task(f"pool:trec-fine?labels=0&metric=paths::&observed=25&draw={seed}")
    return rules(task, task.probed(selfstudy.model("minilm")), split)


def intents(seed: int, run: Run, split: str = "test") -> Values:
    """Measure one seed of the names of intents."""
    pool, encoder = selfstudy.task("pool:banking77?labels=0"), selfstudy.model("minilm")
    space = name_space(encoder.embed(spoken(pool.classes)), pool.classes)
    task = graded_task(pool, space, observed=38, draw=seed)
    names = tuple(task.classes[label] for label in task.observed)
    return rules(task, FeatureClassifier(encoder, name_head(encoder, names), names), split)


def trees(seed: int, run: Run) -> Values:
    """Measure how much two ways of choosing nodes reach of one random tree."""
    random = run.rng("tree")
    edges = np.array([[random.integers(node), node] for node in range(1, NODES)])
    tree = edges_space(edges)
    order = random.permutation(NODES)
    first = order[:FIRST]
    chosen = next_classes(tree, first, ADDED)
    start = tree_locus(tree, first).sum()
    known = {"active": np.append(first, chosen), "random": order[: FIRST + ADDED]}
    added = {"active": len(chosen), "random": ADDED}
    return {
        f"{way}, cover": float(tree_locus(tree, nodes.astype(np.int64)).sum() - start) / added[way]
        for way, nodes in known.items()
    }


GAINS = [
    Relation("over argmax", "gain over argmax", 0.0),
    Relation("over argmax by a fifth", "gain over argmax", 0.2),
    Relation("over the restricted Bayes rule", "gain over the restricted Bayes rule", 0.0),
    Relation("over the restricted Bayes rule by 3 %", "gain over the restricted Bayes rule", 0.03),
    Relation("labels not observed", f"accuracy on labels not observed, {LOKI}", 1.3 / 37),
]
CLAIMS = [
    Claim(
        name="R1-every-6th-angle",
        statement="With 7 of 37 angles observed Loki lowers the squared distance by a fifth against the most "
        "probable class and by 3 % against the restricted Bayes rule, and tells angles that were not "
        "observed right 1.3 times as often as chance.",
        seeds=range(5),
        measure=functools.partial(turned, every=6),
        relations=GAINS,
        share=False,
    ),
    Claim(
        name="R2-every-9th-angle",
        statement="The same with 5 of 37 angles observed.",
        seeds=range(5),
        measure=functools.partial(turned, every=9),
        relations=GAINS,
        share=False,
    ),
    Claim(
        name="R3-active-selection",
        statement="On random trees the node farthest from what is reached adds more reachable nodes than a "
        "random one.",
        seeds=range(TREES),
        measure=trees,
        relations=[Relation("over random choice", "active, cover", "random, cover")],
        share=False,
    ),
    Claim(
        name="R4-tree-of-questions",
        statement="On a tree of classes, half of its leaves observed, Loki lowers the squared distance "
        "against the most probable class and against the restricted Bayes rule.",
        seeds=range(5),
        measure=questions,
        relations=[GAINS[0], GAINS[2]],
        share=False,
    ),
    Claim(
        name="R5-names-of-intents",
        statement="Without labels, with a metric of the labels' own names, Loki lowers the squared distance "
        "against the most probable class and against the restricted Bayes rule.",
        seeds=range(5),
        measure=intents,
        relations=[GAINS[0], GAINS[2]],
        share=False,
    ),
    Claim(
        name="R6-whole-circle",
        statement="A limit: on the whole circle, every second of 36 angles observed, where images turned by "
        "half a circle are taken for each other, the gain over the restricted Bayes rule is below 2 %.",
        seeds=range(5),
        measure=lambda seed, run: {
            **turned(seed, run, every=2, full=True),
            "2 %": 0.02,
        },
        relations=[
            Relation("gain below 2 %", "2 %", "gain over the restricted Bayes rule"),
        ],
        share=False,
    ),
]
