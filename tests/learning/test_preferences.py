"""Learning from pairs: what the policy is held to, completions as tokens, other losses, and what is read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.learning import preferences
from selfstudy.learning.preference_losses import squared_loss
from selfstudy.learning.preferences import Pair, Preference, logprobs, prefer
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import pair_tokens
from selfstudy.models.language.tiny import random_tiny_model

PAIRS = [Pair(f"{i}+1:", f"{i + 1}\n", f"{i}\n") for i in range(7)]
ONE_STEP = Preference(steps=1, batch=7, learning_rate=1e-3, warmup=0.0)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.set_num_threads(1)
    return random_tiny_model(1, 32, seed=1, end=True)


@pytest.fixture
def run(tmp_path):
    with Run(tmp_path / "run", seed=5) as opened:
        yield opened


def logged(run: Run, key: str) -> list[float]:
    import json

    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)[key] for line in lines]


def test_held_to_another_reference(model, run) -> None:
    """Oracle: the first margin is that of the policy's log-ratios to the reference, by scoring both."""
    reference = random_tiny_model(1, 32, seed=2, end=True)
    prefer(model, PAIRS, ONE_STEP, run, "a", reference=reference)
    sides = [
        logprobs(m, pair_tokens(m, [(p.prompt, getattr(p, side)) for p in PAIRS], end=True))
        for side in ("chosen", "rejected")
        for m in (model, reference)
    ]
    expected = (sides[0] - sides[1]) - (sides[2] - sides[3])
    assert logged(run, "margin")[0] == pytest.approx(expected.mean(), abs=1e-5)
    assert logged(run, "ordered")[0] == pytest.approx((expected > 0).mean())


def test_a_reference_with_other_tokens_is_refused(model, run) -> None:
    """Oracle: two vocabularies of one size, and two of different sizes."""
    for vocabulary in ("9876543210+-*=:\n", "0123456789"):
        other = random_tiny_model(1, 32, vocabulary=vocabulary, end=True)
        with pytest.raises(UsageError, match="different tokens"):
            prefer(model, PAIRS, ONE_STEP, run, "a", reference=other)


def test_tokens_stand_for_the_text_they_are(model, tmp_path) -> None:
    """Oracle: a text and its tokens with the end token give the same weights; without it others."""
    ended, cut = [], []
    for pair in PAIRS:
        rows = model.encode_all([pair.chosen, pair.rejected], begins=False)
        cut.append(Pair(pair.prompt, *(tuple(row) for row in rows)))
        ended.append(Pair(pair.prompt, *((*row, model.end) for row in rows)))
    trained = []
    for n, pairs in enumerate((PAIRS, ended, cut)):
        with Run(tmp_path / str(n), seed=5) as run:
            trained.append(list(prefer(model, pairs, ONE_STEP, run, "a").module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(trained[0], trained[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(trained[0], trained[2], strict=True))


def test_squared_loss_of_targets(model, run) -> None:
    """Oracle: at the start the margin is 0, so the loss is the mean square of the targets."""
    pairs = [Pair(p.prompt, p.chosen, p.rejected, float(i)) for i, p in enumerate(PAIRS)]
    prefer(model, pairs, ONE_STEP, run, "a", loss=squared_loss)
    assert logged(run, "loss")[0] == pytest.approx(np.mean(np.arange(7.0) ** 2), rel=1e-4)


def test_likelihood_term(model, run) -> None:
    """Oracle: log 2 plus the weight times the mean negative log-likelihood of a chosen token."""
    prefer(model, PAIRS, Preference(**{**ONE_STEP.__dict__, "likelihood": 0.5}), run, "a")
    rows = pair_tokens(model, [(p.prompt, p.chosen) for p in PAIRS], end=True)
    nll = -logprobs(model, rows) / [len(row[0]) - row[1] for row in rows]
    assert logged(run, "loss")[0] == pytest.approx(np.log(2) + 0.5 * nll.mean(), rel=1e-4)


def test_optimism_term(model, run) -> None:
    """Oracle: log 2 plus the weight times the mean log-likelihood of the rejected completions."""
    prefer(model, PAIRS, Preference(**{**ONE_STEP.__dict__, "optimism": 0.5}), run, "a")
    rows = pair_tokens(model, [(p.prompt, p.rejected) for p in PAIRS], end=True)
    assert logged(run, "loss")[0] == pytest.approx(np.log(2) + 0.5 * logprobs(model, rows).mean(), rel=1e-4)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the reference was given, call by call."""
    counts: list[int] = []
    real: Callable[..., np.ndarray] = preferences.logprobs

    def counting(model: LanguageModel, sequences: list) -> np.ndarray:
        counts.append(len(sequences))
        return real(model, sequences)

    monkeypatch.setattr(preferences, "logprobs", counting)
    return counts


def test_the_reference_reads_each_output_once(model, run, reads) -> None:
    """Oracle: four outputs of one prompt in all their twelve pairs are four texts."""
    texts = ["1\n", "2\n", "3\n", "4\n"]
    pairs = [Pair("1+1:", a, b) for a in texts for b in texts if a != b]
    prefer(model, pairs, Preference(steps=2, batch=12, learning_rate=1e-3), run, "a")
    assert reads == [4] and all(np.isfinite(logged(run, "loss")))


def test_the_reference_reads_what_training_sees(model, run, reads) -> None:
    """Oracle: two steps of two see four of seven pairs, eight texts; a second pass needs all fourteen."""
    prefer(model, PAIRS, Preference(steps=2, batch=2, learning_rate=1e-3), run, "a")
    prefer(model, PAIRS, Preference(steps=5, batch=2, learning_rate=1e-3), run, "b")
    assert reads == [8, 14] and all(np.isfinite(logged(run, "loss")))


@pytest.mark.parametrize("field", [{"beta": 0.0}, {"learning_rate": -1.0}, {"batch": 0}, {"steps": 0}])
def test_settings_that_cannot_be(field) -> None:
    """Oracle: each names its field."""
    with pytest.raises(UsageError, match=next(iter(field)).replace("_", "-")):
        Preference(**field).validate()
