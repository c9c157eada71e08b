"""What labelling a batch of queries together is worth, on episodes of classes that nothing was chosen on.

Three sets of features. Digits: pixels, centred and of length 1; settings are chosen on episodes of 4 digits
and episodes of 5 of the other 6 are judged. TREC's fine classes and AG News: all-MiniLM-L6-v2, frozen;
settings are chosen on episodes of half of TREC's classes, and judged on those of the other half and on all
four of AG News. Fashion-MNIST: a small convolutional network trained on 6 classes, on held-out images of
which settings are chosen; the other 4 are judged. Seeds draw the classes, the network and the episodes: 500
episodes to judge, 100 to choose on, with 15 queries a class. Accuracies are direct: predictions are never
paired with classes.

All ways share the transformed features (the mean of the classes chosen on is taken off) and the episodes.
Each has its settings chosen on the same episodes by accuracy: smoothness and sharpness of ours, the penalty
of logistic regression and self-training, neighbours and alpha of label spreading. The grid of ours is the
authors', with T. Nothing was chosen on the classes that are judged.

The failing case is a perceptron trained on five digits alone, whose features have no clusters for the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.episodes import Drawn, Episodes
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.data.text_sets import text_splits
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.episode_baselines import logistic, self_trained, spread_labels
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.learning.transduction import Transduction, graph_of, rising, transduce
from selfstudy.learning.transduction_tuning import SHARPNESS, SMOOTHNESS
from selfstudy.models.encoders.features import features_of

JUDGED, CHOSEN, WATCHED, QUERIES = 500, 100, 30, 15
PENALTIES = (1.0, 0.1, 0.01)
SPREADS = tuple(itertools.product((3, 7, 15), (0.2, 0.5, 0.8, 0.95)))
BASE, KMEANS, FIXED, FULL = "nearest prototype", "k-means", "prototypes fixed, smooth", "full"
UNEVEN = 2.0  # of the Dirichlet distribution


class Part(NamedTuple):
    """Features that episodes are drawn from."""

    features: torch.Tensor  # [N, d], not transformed
    labels: np.ndarray  # [N]
    ways: int


class Batch(NamedTuple):
    """Episodes as tensors."""

    support: torch.Tensor  # [B, s, d]
    targets: torch.Tensor  # [s, K]
    queries: torch.Tensor  # [B, q, d]
    truth: torch.Tensor  # [B, q]


Way = Callable[[Batch], torch.Tensor]
"""Gives the label of each query [B, q]."""


def ours(settings: Transduction) -> Way:
    """Label by the method itself."""

    def label(batch: Batch) -> torch.Tensor:
        graph = graph_of(batch.queries, batch.support, settings) if settings.smoothness else None
        return transduce(batch.support, batch.targets, batch.queries, settings, graph=graph).labels

    return label


def by(function: Callable[..., torch.Tensor], **settings: Any) -> Way:
    """Label by a baseline."""
    return lambda batch: function(batch.support, batch.targets, batch.queries, **settings).argmax(-1)


# What each way may be, the first being taken where equal.
WAYS: dict[str, list[Way]] = {
    BASE: [ours(Transduction(smoothness=0.0, prototypes="fixed"))],
    "logistic regression": [by(logistic, penalty=one) for one in PENALTIES],
    "self-training": [by(self_trained, penalty=one) for one in PENALTIES],
    "label spreading": [by(spread_labels, neighbours=k, alpha=alpha) for k, alpha in SPREADS],
    KMEANS: [ours(Transduction(smoothness=0.0, sharpness=sharp)) for sharp in SHARPNESS],
    FIXED: [
        ours(Transduction(prototypes="fixed", smoothness=smooth, sharpness=sharp))
        for sharp, smooth in itertools.product(SHARPNESS, SMOOTHNESS)
    ],
    FULL: [
        ours(Transduction(smoothness=smooth, sharpness=sharp))
        for sharp, smooth in itertools.product(SHARPNESS, SMOOTHNESS)
    ],
}


def episodes(part: Part, centre: torch.Tensor, shots: int, count: int, seed: int, uneven: bool) -> Batch:
    """Return episodes as tensors of transformed features."""
    kind = Episodes(ways=part.ways, shots=shots, queries=QUERIES, imbalance=UNEVEN if uneven else None)
    drawn: Drawn = kind.draw(part.labels, count, seed=seed)
    features = functional.normalize(part.features - centre, dim=1)
    targets = functional.one_hot(torch.from_numpy(drawn.support_labels)).float()
    return Batch(
        features[drawn.support], targets, features[drawn.queries], torch.from_numpy(drawn.query_labels)
    )


def right(way: Way, batch: Batch) -> float:
    """Return the share of queries that are told right."""
    return float((way(batch) == batch.truth).float().mean())


def compared(chosen_on: Part, judged: dict[str, Part], seed: int, shots: int) -> Values:
    """Choose each way's settings on episodes of one part, and judge it on those of others."""
    centre = chosen_on.features.mean(0)
    development = episodes(chosen_on, centre, shots, CHOSEN, seed, False)
    best = {
        name: max(ways, key=lambda way: right(way, development)) if len(ways) > 1 else ways[0]
        for name, ways in WAYS.items()
    }
    values: Values = {}
    for set_name, part in judged.items():
        batch = episodes(part, centre, shots, JUDGED, seed, set_name.endswith("uneven"))
        values |= {f"{way}, {set_name}, {shots}-shot": right(found, batch) for way, found in best.items()}
    return values


def classes_of(part: Part, classes: np.ndarray, ways: int) -> Part:
    """Return the items of some classes."""
    at = np.isin(part.labels, classes)
    return Part(part.features[torch.from_numpy(at)], part.labels[at], ways)


def digits() -> Part:
    """Return all pixels of all digits."""
    parts = image_splits("digits").values()
    features = torch.cat([part.pixels(slice(None)).flatten(1) for part in parts])
    return Part(features, np.concatenate([part.labels for part in parts]), 5)


def texts(name: str, least: int, most: int = 10**9) -> Part:
    """Return embeddings of the classes of a set of texts that have enough of them."""
    found = text_splits(name)["train"]
    counts = np.bincount(found.labels)
    at = np.flatnonzero(counts[found.labels] >= least)
    some = found.only(generator("claim", name).permutation(at)[:most])
    return Part(features_of(selfstudy.model("minilm"), some), some.labels, 5)


def clothes(seed: int, run: Run) -> tuple[Part, Part]:
    """Return held-out images of six classes that a network was trained on, and images of the other four."""
    parts, order = image_splits("fashion-mnist"), generator("claim", "clothes", seed).permutation(10)
    codes = np.full(10, -1)
    codes[order[:6]] = np.arange(6)

    def of(split: str, classes: np.ndarray) -> ImageSet:
        return parts[split].only(np.flatnonzero(np.isin(parts[split].labels, classes)))

    base = of("train", order[:6])
    names = tuple(base.classes[label] for label in order[:6])
    labelled = ImageSet(base.name, base.images, codes[base.labels], names)
    encoder = selfstudy.model(f"conv?seed={seed}").made_for(labelled)
    classifier = run.stage(
        "network", lambda: train_classifier(run, encoder, labelled, Supervised(steps=400, batch=64))
    )
    chosen, judged = of("validation", order[:6]), of("test", order[6:])
    return (
        Part(features_of(classifier, chosen), chosen.labels, 4),
        Part(features_of(classifier, judged), judged.labels, 4),
    )


def perceptron(part: Part, classes: np.ndarray, seed: int) -> Part:
    """Return what a perceptron that was trained on five digits says of all of them: its last hidden layer."""
    from sklearn.neural_network import MLPClassifier

    base = classes_of(part, classes, 5)
    fitted = MLPClassifier((128, 64), random_state=seed, max_iter=500).fit(base.features.numpy(), base.labels)
    hidden = part.features.numpy()
    for weight, bias in list(zip(fitted.coefs_, fitted.intercepts_, strict=True))[:-1]:
        hidden = np.maximum(hidden @ weight + bias, 0)
    return Part(torch.from_numpy(hidden).float(), part.labels, 5)


def figures(seed: int, beside: Run) -> Values:
    """Return the accuracy of each way on all sets; kept beside the claims, which share them."""
    with Run(beside.directory.parents[1] / "episodes" / f"seed-{seed}", {}, seed=seed) as run:
        values: Values = {}
        for name, parts in {"digits": of_digits, "texts": of_texts, "clothes": of_clothes}.items():
            chosen, judged = parts(seed, run)
            for shots in (1, 5):
                values |= run.stage(
                    f"{name}-{shots}", lambda c=chosen, j=judged, s=shots: compared(c, j, seed, s)
                )
        chosen, judged = of_perceptron(seed)
        values |= run.stage("perceptron", lambda: compared(chosen, judged, seed, 5))
    return values


def of_digits(seed: int, run: Run) -> tuple[Part, dict[str, Part]]:
    """Four digits to choose on, six to judge, evenly and unevenly."""
    order = generator("claim", "digits", seed).permutation(10)
    novel = classes_of(digits(), order[4:], 5)
    return classes_of(digits(), order[:4], 4), {"digits": novel, "digits uneven": novel}


def of_texts(seed: int, run: Run) -> tuple[Part, dict[str, Part]]:
    """Half of TREC's classes to choose on, the other half and AG News to judge."""
    trec, news = texts("trec-fine", 5 + QUERIES), texts("ag-news", 5 + QUERIES, 4000)
    order = generator("claim", "texts", seed).permutation(np.unique(trec.labels))
    half = len(order) // 2
    novel = {"TREC": classes_of(trec, order[half:], 5), "AG News": Part(news.features, news.labels, 4)}
    return classes_of(trec, order[:half], 5), novel


def of_clothes(seed: int, run: Run) -> tuple[Part, dict[str, Part]]:
    """Six trained classes to choose on, four others to judge."""
    chosen, judged = clothes(seed, run)
    return chosen, {"Fashion-MNIST": judged}


def of_perceptron(seed: int) -> tuple[Part, dict[str, Part]]:
    """Five digits that a perceptron was trained on to choose on, the five others to judge."""
    order = generator("claim", "perceptron", seed).permutation(10)
    hidden = perceptron(digits(), order[:5], seed)
    return classes_of(hidden, order[:5], 5), {"five digits' features": classes_of(hidden, order[5:], 5)}


def only(*names: str) -> Callable[[int, Run], Values]:
    """Return what measures the figures of some sets."""

    def measure(seed: int, run: Run) -> Values:
        return {name: value for name, value in figures(seed, run).items() if name.split(", ")[-2] in names}

    return measure


def one_shot_seed(seed: int, run: Run) -> Values:
    """R1: the gain at one label a class, and no loss at five; with all figures of all sets."""
    values: Any = figures(seed, run)
    values[f"{BASE}, digits, 1-shot, plus 4 points"] = values[f"{BASE}, digits, 1-shot"] + 0.04
    values[f"{FULL}, digits, 5-shot, plus 0.3 points"] = values[f"{FULL}, digits, 5-shot"] + 0.003
    return values


def clustering_seed(seed: int, run: Run) -> Values:
    """R2: k-means from the labelled items beside all of the method."""
    values: Any = only("digits")(seed, run)
    both = [values[f"{way}, digits, 1-shot"] for way in (BASE, FULL)]
    values["half-way from nearest prototype to full, digits, 1-shot"] = sum(both) / 2
    values[f"{KMEANS}, digits, 5-shot, plus half a point"] = values[f"{KMEANS}, digits, 5-shot"] + 0.005
    return values


def uneven_seed(seed: int, run: Run) -> Values:
    """R4: what is gained on even and on uneven queries."""
    values: Any = figures(seed, run)
    return {
        f"gain of {way}, {kind}": values[f"{way}, {name}, 1-shot"] - values[f"{BASE}, {name}, 1-shot"]
        for way in (KMEANS, FULL)
        for kind, name in {"even": "digits", "uneven": "digits uneven"}.items()
    }


def energy_seed(seed: int, run: Run) -> Values:
    """R3: how many episodes have an energy that never rises, over all pairs of settings."""
    chosen, judged = of_digits(seed, run)
    batch = episodes(judged["digits"], chosen.features.mean(0), 1, WATCHED, seed, False)
    graphs = {"symmetric graph": {}, "psd graph": {"psd": True}, "graph as it is": {"symmetric": False}}
    values: Values = {}
    for name, fields in graphs.items():
        graph = graph_of(batch.queries, batch.support, Transduction(**fields))
        calm = []
        for sharpness, smoothness in itertools.product(SHARPNESS, SMOOTHNESS):
            settings = Transduction(smoothness=smoothness, sharpness=sharpness)
            found = transduce(batch.support, batch.targets, batch.queries, settings, graph=graph)
            queries = batch.queries.shape[1]
            risen = torch.stack([rising(energies, queries) for energies in found.energies]).any(0)
            calm += (~risen).tolist()
        values[f"episodes whose energy never rises, {name}"] = float(np.mean(calm))
    return values


def above(way: str, other: str, names: Sequence[str], shots: int) -> list[Relation]:
    """Return that one way is above another on each set."""
    return [
        Relation(f"{name}, {shots}-shot", f"{way}, {name}, {shots}-shot", f"{other}, {name}, {shots}-shot")
        for name in names
    ]


CLAIMS = [
    Claim(
        name="R1-one-shot",
        statement="On digits, 5 ways and one label a class, labelling queries together is 4 points above the "
        "nearest prototype; with five labels it is not 0.3 points below.",
        seeds=range(5),
        measure=one_shot_seed,
        relations=[
            *above(FULL, BASE, ["digits"], 1),
            Relation("by 4 points", f"{FULL}, digits, 1-shot", f"{BASE}, digits, 1-shot, plus 4 points"),
            Relation("no loss at 5", f"{FULL}, digits, 5-shot, plus 0.3 points", f"{BASE}, digits, 5-shot"),
        ],
    ),
    Claim(
        name="R1-other-features",
        statement="It is above the nearest prototype with one label a class on questions and news by a "
        "frozen sentence encoder, and on clothes by a network trained on others.",
        seeds=range(5),
        measure=only("TREC", "AG News", "Fashion-MNIST"),
        relations=above(FULL, BASE, ["TREC", "AG News", "Fashion-MNIST"], 1),
    ),
    Claim(
        name="R2-clustering",
        statement="K-means from the labelled items has half of the gain or more on digits with one label a "
        "class; with five, near items agreeing adds half a point.",
        seeds=range(5),
        measure=clustering_seed,
        relations=[
            Relation(
                "half of the gain",
                f"{KMEANS}, digits, 1-shot",
                "half-way from nearest prototype to full, digits, 1-shot",
            ),
            Relation(
                "half a point", f"{FULL}, digits, 5-shot", f"{KMEANS}, digits, 5-shot, plus half a point"
            ),
        ],
    ),
    Claim(
        name="R3-energy",
        statement="The bound energy never rises on a symmetric graph, with or without its diagonal raised, "
        "under any of the settings.",
        seeds=range(5),
        measure=energy_seed,
        relations=[
            Relation(name, f"episodes whose energy never rises, {name}", 1.0, how="level")
            for name in ("symmetric graph", "psd graph")
        ],
    ),
    Claim(
        name="R4-uneven",
        statement="The gain is smaller where classes are not equally frequent among the queries.",
        seeds=range(5),
        measure=uneven_seed,
        relations=[Relation(way, f"gain of {way}, even", f"gain of {way}, uneven") for way in (KMEANS, FULL)],
    ),
    Claim(
        name="R5-failing-case",
        statement="Where the features were trained on five other digits and have no clusters for these, it "
        "is worse than the nearest prototype.",
        seeds=range(5),
        measure=only("five digits' features"),
        relations=[
            *above(BASE, KMEANS, ["five digits' features"], 5),
            Relation(
                "full, 5-shot",
                f"{BASE}, five digits' features, 5-shot",
                f"{FULL}, five digits' features, 5-shot",
            ),
        ],
    ),
]
