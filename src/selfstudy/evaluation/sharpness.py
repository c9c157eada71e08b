"""How sharp a model is, and what choosing among its own samples is worth: exact laws and estimates.

A model p is sharpened to the degree that it says its likeliest response y* at once. Choosing the best of n
samples finds y* once n is of the order of 1 / p(y*), the coverage (Huang et al. 2024, arXiv 2412.01951).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import comb, logsumexp

from selfstudy.core.errors import UsageError
from selfstudy.evaluation.pictures import Picture, bars, line, picture
from selfstudy.evaluation.statistics import auc

LOW, HIGH, BINS = -4.0, 4.0, 16  # of log10 (n p(best)); what lies beyond is counted in the outer bins


def tempered(logprobs: np.ndarray, beta: float) -> np.ndarray:
    """Return the optimum of E_q[log p] - beta KL(q || p): q proportional to p^(1 + 1/beta), [R].

    >>> tempered(np.log([0.5, 0.25, 0.25]), beta=1.0).round(4).tolist()
    [0.6667, 0.1667, 0.1667]

    Args:
        logprobs: log p of all R responses.
        beta: how strongly q is held to p; towards 0 all mass goes to the likeliest response.
    """
    scaled = (1 + 1 / beta) * np.asarray(logprobs, dtype=float)
    return np.exp(scaled - logsumexp(scaled))


def best_of_law(probabilities: np.ndarray, rewards: np.ndarray, n: int) -> np.ndarray:
    """Return the chance [R] of each response to be the best of n samples: F(y)^n - F(y-)^n.

    F is the probability of all that is rewarded no higher. Rewards must differ.

    >>> best_of_law(np.array([0.5, 0.5]), np.array([0.0, 1.0]), 2).tolist()
    [0.25, 0.75]
    """
    order = np.argsort(rewards, kind="stable")
    below = np.concatenate(([0.0], np.cumsum(np.asarray(probabilities, dtype=float)[order])))
    law = np.empty(len(order))
    law[order] = below[1:] ** n - below[:-1] ** n
    return law


def found(probability: float, n: int) -> float:
    """Return the chance that a response of this probability is among n samples: 1 - (1 - p)^n.

    >>> round(found(0.1, 44), 3)
    0.99
    """
    return 1 - (1 - probability) ** n


def best_of_curve(rewards: Sequence[float], values: Sequence[float], n: int) -> float:
    """Return the expected value of the best-rewarded of n out of N drawn samples, over all choices of n.

    An unbiased estimate from one set of samples. Of equal rewards the first sample is the better one.

    >>> best_of_curve([0.1, 0.5, 0.3], [0.0, 1.0, 0.0], 2)
    0.6666666666666666

    Args:
        rewards: of the N samples.
        values: what each is worth.
        n: 1 to N.

    Raises:
        UsageError: n out of range.
    """
    many = len(rewards)
    if not 1 <= n <= many:
        raise UsageError(f"The best of {n} cannot be estimated from {many} samples.")
    best_last = np.argsort(-np.asarray(rewards, dtype=float), kind="stable")[::-1]
    # The sample of rank k is the best of those chosen when all others are among the k below it.
    chances = comb(np.arange(many), n - 1) / comb(many, n)
    return float(chances @ np.asarray(values, dtype=float)[best_last])


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether as many samples as were drawn find what the model thinks likeliest."""

    samples: np.ndarray
    """[P] samples of each prompt, n."""
    best: np.ndarray
    """[P] log p of the likeliest sample of each, which estimates log p(y*) from below."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures: the share of prompts with n p(best) of at least 1, and sizes of 1 / p(best)."""
        counts, edges = self.histogram()
        return {
            "covered": float((self._log10 >= 0).mean()),
            "log10_coverage": float((logsumexp(-self.best) - math.log(len(self.best))) / math.log(10)),
            "log10_coverage_median": float(np.median(-self.best) / math.log(10)),
            "histogram": {"from": edges[:-1].tolist(), "prompts": counts.tolist()},
        }

    @property
    def _log10(self) -> np.ndarray:
        return np.log10(self.samples) + self.best / math.log(10)

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many prompts have which log10 of n p(best), and the edges of the bins."""
        return np.histogram(self._log10.clip(LOW, HIGH), bins=BINS, range=(LOW, HIGH))

    def picture(self) -> Picture:
        """Return the histogram, for the report."""
        counts, edges = self.histogram()
        return picture(
            "Coverage of the prompts",
            [bars("prompts", (edges[1:] + edges[:-1]) / 2, counts)],
            x="log10 of samples times the probability of the likeliest one",
            y="prompts",
            note="Right of 0 the samples cover what the model thinks likeliest: it turns up again and again. "
            "Far left of 0 a likelier response may not have been seen, and more samples would help.",
            layout={"bargap": 0.02},
        )


def curve_picture(numbers: Sequence[int], curves: dict[str, Sequence[float]], y: str) -> Picture:
    """Return curves over the number of samples chosen from.

    Args:
        numbers: of samples.
        curves: by name, a value for each number.
        y: what the values are.
    """
    return picture(
        f"Best of n by the self-reward: {y}",
        [line(name, numbers, values) for name, values in curves.items()],
        x="n",
        y=y,
        note="Each point is the mean over the prompts, and over all choices of n of the samples drawn.",
        layout={"xaxis": {"type": "log", "tickvals": list(numbers)}},
    )


def coverage_report(drawn: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[Picture]]:
    """Return figures and pictures of what was drawn: coverage, and what the best of n would be.

    Args:
        drawn: a record of each prompt with "samples", "cut", "empty", "unanswered" and "distinct" answers,
            and of those that may be chosen "rewards", "logprobs" and "grades" (none where nobody asked).
    """
    usable = [x for x in drawn if x["distinct"]]
    coverage = Coverage(
        np.array([x["samples"] for x in usable]), np.array([max(x["logprobs"]) for x in usable])
    )
    most = min(len(x["rewards"]) for x in usable)
    numbers = sorted({min(2**i, most) for i in range(most.bit_length() + 1)})
    curves = {
        name: [float(np.mean([best_of_curve(x["rewards"], x[key], n) for x in usable])) for n in numbers]
        for name, key in (("log-likelihood", "logprobs"), ("accuracy", "grades"))
        if usable[0][key]
    }
    report: dict[str, Any] = {
        "prompts": len(usable),
        "sharp": sum(x["distinct"] == 1 for x in usable),
        **{name: sum(x[name] for x in drawn) for name in ("samples", "cut", "empty", "unanswered")},
        "coverage": coverage.to_json(),
        "best_of": {"n": numbers, **curves},
    }
    right = [grade == 1 for x in usable for grade in x["grades"]]
    if len(set(right)) == 2:
        report["auc"] = auc([reward for x in usable for reward in x["rewards"]], right)
    pictures = [coverage.picture(), *(curve_picture(numbers, {k: v}, k) for k, v in curves.items())]
    return report, pictures
