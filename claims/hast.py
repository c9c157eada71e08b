"""What HAST's own labels are worth to active learning, beside six other ways to choose pseudo-labels.

AG News and TREC-6, a pool of 4,000 drawn texts each; 64 tokens of each; all-MiniLM-L6-v2, frozen, an adapter
of 128 with a logistic head. 30 labels, then ten times 10 more by breaking ties. All ways share the starting
labels, the encoder, every setting and the number of pairs of each fit; only which pseudo-labels are taken,
and their weights, differ. VERIPS trains a third classifier in each round. The classifier of each round is
judged once on the 2,000 test texts (500 of TREC). The area under the learning curve is the mean accuracy over
its labels.

Settings were chosen on validation texts with seeds from 100, looking at the fit on labels alone: of lengths
of 1 to 5 before the logistic head, 3 has the least cross-entropy; more pairs and other rates changed little.
All claims of a set read the same trainings. Pseudo-labels are held against the set's labels here, outside of
the method.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.data.text_sets import text_splits
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.statistics import curve_area
from selfstudy.methods.pseudolabels.hast import Hast
from selfstudy.signals.evidence import PseudoLabels
from selfstudy.signals.pseudo_labels import SELECTORS

LABELS, POOL, TEST = 30, 4000, 2000
HALF, ACCURATE, TIMES = 0.005, 0.03, 5
NAMES = {
    "none": "labels alone",
    "hast": "HAST",
    "ust": "UST",
    "actune": "AcTune",
    "verips": "VERIPS",
    "nest": "NeST",
    "threshold": "all above 0.9",
}
COMPARED = ("ust", "actune", "verips", "nest")


def curves(name: str, seed: int, beside: Run) -> dict[str, Any]:
    """Return accuracies and pseudo-labels of each round by way; they are kept beside the claims."""
    task = selfstudy.task(f"pool:{name}?labels={LABELS}&draw={seed}&train={POOL}&test={TEST}")
    encoder = task.prepared(selfstudy.model("minilm?length=64"))
    whole = text_splits(name)["train"]
    truth = dict(zip(whole.texts, whole.labels.tolist(), strict=True))
    true = np.array([truth[text] for text in task.pool.texts])

    def curve(selector: Any) -> dict[str, Any]:
        method = Hast(pseudo=PseudoLabels(selector=selector))
        folder = beside.directory.parents[1] / "trainings" / f"{name}-{seed}-{selector}"
        with Run(folder, {}, seed=seed) as run:
            bound = task.metered(run.meter)
            learner = method.learner(bound, encoder)
            _, rounds = method.rounds(bound, learner, run)
            tested = [task.evaluate(learner.classifier(one.trained)).values for one in rounds]
            spent = run.meter.snapshot()
        return {
            "labels": [one.labelled for one in rounds],
            "accuracy": [float(np.mean(one)) for one in tested],
            "pseudo": [len(one.places) for one in rounds],
            "right": [int((true[one.places] == one.labels).sum()) for one in rounds],
            "samples": spent["samples"],
        }

    with Run(beside.directory.parents[1] / "curves" / f"{name}-{seed}", {}, seed=seed) as run:
        return {way: run.stage(way, lambda way=way: curve(way)) for way in SELECTORS}  # type: ignore[misc]


def areas(name: str, seed: int, run: Run) -> Values:
    """The area under each learning curve, and accuracies at its ends."""
    values: Values = {}
    for way, found in curves(name, seed, run).items():
        called = NAMES[way]
        values[called] = curve_area(found["labels"], found["accuracy"])
        for place in (0, 3, -1):
            values[f"{called}, at {found['labels'][place]} labels"] = found["accuracy"][place]
    values["labels alone, plus half a point"] = values["labels alone"] + HALF  # type: ignore[operator]
    values["HAST, plus half a point"] = values["HAST"] + HALF  # type: ignore[operator]
    return values


def counts(name: str, seed: int, run: Run) -> Values:
    """Pseudo-labels a round."""
    found = curves(name, seed, run)
    values: Values = {NAMES[way]: float(np.mean(found[way]["pseudo"])) for way in found if way != "none"}
    for way in ("actune", "verips"):
        values[f"{TIMES} times {NAMES[way]}"] = TIMES * values[NAMES[way]]  # type: ignore[operator]
    for way in found:
        values[f"thousand samples, {NAMES[way]}"] = found[way]["samples"] / 1000
    return values


def right(name: str, seed: int, run: Run) -> Values:
    """The share of pseudo-labels, of all rounds, that are right."""
    found = curves(name, seed, run)
    values: Values = {
        NAMES[way]: sum(found[way]["right"]) / max(1, sum(found[way]["pseudo"]))
        for way in found
        if way != "none"
    }
    for way in ("hast", "actune", "verips"):
        values[f"{NAMES[way]}, plus 3 points"] = values[NAMES[way]] + ACCURATE  # type: ignore[operator]
    return values


def claims_of(name: str, title: str) -> list[Claim]:
    """Return the claims on one set."""
    return [
        Claim(
            name=f"A-{name}",
            statement=f"On {title}, from 30 to 130 labels by breaking ties, HAST's mean accuracy is above "
            "that of active learning without self-training, by half a point.",
            seeds=range(5),
            measure=lambda seed, run: areas(name, seed, run),
            relations=[
                Relation("over labels alone", "HAST", "labels alone"),
                Relation("by half a point", "HAST", "labels alone, plus half a point"),
            ],
        ),
        Claim(
            name=f"B-{name}-curve",
            statement=f"On {title} none of the four strategies that HAST is compared with is in the mean "
            "accuracy of its curve half a point above HAST.",
            seeds=range(5),
            measure=lambda seed, run: areas(name, seed, run),
            relations=[
                Relation(f"beside {NAMES[way]}", "HAST, plus half a point", NAMES[way]) for way in COMPARED
            ],
        ),
        Claim(
            name=f"B-{name}-count",
            statement=f"On {title} HAST has five times as many pseudo-labels a round as AcTune and VERIPS.",
            seeds=range(5),
            measure=lambda seed, run: counts(name, seed, run),
            relations=[
                Relation(f"beside {NAMES[way]}", "HAST", f"{TIMES} times {NAMES[way]}")
                for way in ("actune", "verips")
            ],
            share=False,
        ),
        Claim(
            name=f"B-{name}-right",
            statement=f"On {title} HAST's pseudo-labels are as often right as those of AcTune and VERIPS, "
            "within 3 points.",
            seeds=range(5),
            measure=lambda seed, run: right(name, seed, run),
            relations=[
                relation
                for way in ("actune", "verips")
                for relation in (
                    Relation(f"not below {NAMES[way]}", "HAST, plus 3 points", NAMES[way]),
                    Relation(f"not above {NAMES[way]}", f"{NAMES[way]}, plus 3 points", "HAST"),
                )
            ],
        ),
    ]


CLAIMS = [*claims_of("ag-news", "AG News"), *claims_of("trec", "TREC-6")]
