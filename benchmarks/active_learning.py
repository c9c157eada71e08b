"""A round of active learning against small-text's, and both learning curves on the same features and seeds.

Method: features of all training texts of AG News and TREC by all-MiniLM-L6-v2 (not timed), 30 labels to
start with, then ten times 10 by breaking ties, without self-training; a classifier is a logistic
regression with the same settings on both sides. A round is a query and the training on the labels that
it brings. The peer is small-text's `PoolBasedActiveLearner` with `BreakingTies` and a
`SklearnClassifierFactory`; ours is `signals.queries.query` and `learning.pair_tuning.set_logistic`. Both
go on from their own picks, and their rounds are timed in turn, by processor time and by the clock, on
one thread; a ratio is the median of the ratios of all rounds after the first seed. First the curves: the
benchmark fails where the mean accuracies of a set differ by more than half a point, or the first picks
from the same labels are others. The bar is a ratio of 3.

    pip install small-text==1.4.1
    SELFSTUDY_DATA=... python benchmarks/active_learning.py [--seeds 5] [--quick] [--peer FOLDER]

`--peer` names the site-packages of an environment that has small-text; what both have is taken from ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from selfstudy.core.machine import hardware, versions
from selfstudy.core.random import generator
from selfstudy.data.labelled import balanced_places
from selfstudy.evaluation.statistics import curve_area
from selfstudy.learning.pair_tuning import LOGISTIC_STEPS, set_logistic
from selfstudy.signals.queries import Candidates, query

SETS, QUICK, TEST = ("ag-news", "trec"), 400, 2000
LABELS, QUERIES, BATCH = 30, 10, 10
WITHIN, BAR = 0.005, 3.0


class Ours:
    """The project's parts: a linear map, fitted as scikit-learn does, and a query strategy."""

    def __init__(self, features: np.ndarray, truth: np.ndarray, at: np.ndarray) -> None:
        self.features, self.truth, self.known = torch.from_numpy(features), truth, at
        self.linear = torch.nn.Linear(features.shape[1], int(truth.max()) + 1)
        self._train()

    def _train(self) -> None:
        set_logistic(self.linear, self.features[self.known].numpy(), self.truth[self.known])

    def round(self) -> np.ndarray:
        """Ask for labels and train; return the places asked for."""
        open_items = np.ones(len(self.features), dtype=bool)
        open_items[self.known] = False
        unlabelled = np.flatnonzero(open_items)
        with torch.inference_mode():
            probabilities = self.linear(self.features).softmax(1)
        seen = Candidates(
            probabilities=probabilities[unlabelled],
            features=self.features,  # breaking ties looks at probabilities alone
            labelled_probabilities=probabilities[self.known],
            labelled_features=self.features,
            passes=lambda: probabilities[unlabelled, None],
            rng=generator("unused"),
        )
        picked = unlabelled[query("breaking-ties", seen, BATCH)]
        self.known = np.concatenate([self.known, picked])
        self._train()
        return picked

    def accuracy(self, features: np.ndarray, truth: np.ndarray) -> float:
        """Return the share told right."""
        with torch.inference_mode():
            return float((self.linear(torch.from_numpy(features)).argmax(1).numpy() == truth).mean())


class Peer:
    """small-text's learner."""

    def __init__(self, features: np.ndarray, truth: np.ndarray, at: np.ndarray) -> None:
        from small_text import BreakingTies, PoolBasedActiveLearner, SklearnClassifierFactory, SklearnDataset

        classes = int(truth.max()) + 1
        pool = SklearnDataset(features, truth, target_labels=np.arange(classes))
        factory = SklearnClassifierFactory(LogisticRegression(max_iter=LOGISTIC_STEPS), classes)
        self.truth, self.learner = truth, PoolBasedActiveLearner(factory, BreakingTies(), pool)
        self.learner.initialize_data(at, truth[at])

    def round(self) -> np.ndarray:
        """Ask for labels and train; return the places asked for."""
        picked = self.learner.query(num_samples=BATCH)
        self.learner.update(self.truth[picked])
        return picked

    def accuracy(self, features: np.ndarray, truth: np.ndarray) -> float:
        """Return the share told right."""
        return float((self.learner.classifier.model.predict(features) == truth).mean())


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """Return the picks, processor seconds and seconds of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    picked = work()
    return picked, time.process_time() - cpu, time.perf_counter() - wall


def embedded(name: str, pool: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features and labels of the texts to learn from, and of those to test on."""
    import selfstudy
    from selfstudy.data.text_sets import text_splits
    from selfstudy.models.encoders.features import features_of

    splits, encoder = text_splits(name), selfstudy.model("minilm?length=64")
    train, test = splits["train"].only(slice(pool)), splits["test"].only(slice(pool or TEST))
    return features_of(encoder, train).numpy(), train.labels, features_of(encoder, test).numpy(), test.labels


def one_seed(data: tuple[np.ndarray, ...], seed: int) -> dict[str, Any]:
    """Return both curves, how many picks are the same, and the times of each round."""
    features, truth, test_features, test_truth = data
    at = balanced_places(truth, LABELS, seed, "benchmark")
    sides: dict[str, Any] = {"ours": Ours(features, truth, at), "small-text": Peer(features, truth, at)}
    curves: dict[str, list[float]] = {
        name: [side.accuracy(test_features, test_truth)] for name, side in sides.items()
    }
    picks: dict[str, list[list[int]]] = {name: [] for name in sides}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(QUERIES):
        for name, side in sides.items():
            picked, cpu, wall = timed(side.round)
            picks[name].append(sorted(int(place) for place in picked))
            times[name].append((cpu, wall))
            curves[name].append(side.accuracy(test_features, test_truth))
    whole = [{place for query in made for place in query} for made in picks.values()]
    return {
        "pool": len(features),
        "curves": curves,
        "first_picks_equal": picks["ours"][0] == picks["small-text"][0],
        "same_picks": len(whole[0] & whole[1]) / len(whole[0]),
        "times": times,
    }


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return areas of the curves, and medians of times and of their ratios, without the first seed's."""
    labels = [LABELS + BATCH * number for number in range(QUERIES + 1)]
    areas = {
        name: [curve_area(labels, one["curves"][name]) for one in seeds] for name in ("ours", "small-text")
    }
    timed_seeds = seeds[1:] or seeds
    rows = [
        pair
        for one in timed_seeds
        for pair in zip(one["times"]["ours"], one["times"]["small-text"], strict=True)
    ]
    ratios = {
        kind: sorted(theirs[at] / ours[at] for ours, theirs in rows)
        for at, kind in enumerate(("ratio_cpu", "ratio"))
    }
    return {
        "mean_accuracy": areas,
        "apart": abs(statistics.mean(areas["ours"]) - statistics.mean(areas["small-text"])),
        "first_picks_equal": all(one["first_picks_equal"] for one in seeds),
        "same_picks": statistics.mean(one["same_picks"] for one in seeds),
        "pool": seeds[0]["pool"],
        "milliseconds": {
            "ours": 1000 * statistics.median(ours[1] for ours, _ in rows),
            "small-text": 1000 * statistics.median(theirs[1] for _, theirs in rows),
        },
        **{kind: statistics.median(found) for kind, found in ratios.items()},
        "ratio_quartiles": [float(np.quantile(ratios["ratio"], share)) for share in (0.25, 0.75)],
        "curves": [one["curves"] for one in seeds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two seeds and few texts")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.peer:
        sys.path.append(str(options.peer))
    warnings.filterwarnings("ignore", module="small_text")
    torch.set_num_threads(1)
    seeds, pool = (2, QUICK) if options.quick else (options.seeds, None)
    found = {}
    for name in SETS:
        data = embedded(name, pool)
        found[name] = summary([one_seed(data, seed) for seed in range(seeds)])
    result = {
        "sets": found,
        "seeds": seeds,
        "threads": 1,
        "versions": {
            **versions(),
            "small-text": version("small-text"),
            "scikit-learn": version("scikit-learn"),
        },
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")
    for name, one in found.items():
        if one["apart"] > WITHIN or not one["first_picks_equal"]:
            sys.exit(f"the curves on {name} differ by {one['apart']:.4f}")
        if one["ratio"] < BAR:
            sys.exit(f"a round on {name} is only {one['ratio']:.1f} times as fast")


if __name__ == "__main__":
    main()
