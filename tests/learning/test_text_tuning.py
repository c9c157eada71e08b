"""Whole text encoders trained on labels: steps by hand, what is kept, and runs that are resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.budget import Budget
from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.core.run import Run
from selfstudy.learning import text_fine_tuning
from selfstudy.learning.pair_tuning import draw_pairs
from selfstudy.learning.text_dropout import dropout_passes_of_texts, dropping
from selfstudy.learning.text_fine_tuning import TextFineTuning, fine_tune_texts, held_out
from selfstudy.learning.text_tuning import SetFitTuning, tune_on_pairs
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead
from selfstudy.models.encoders.text_transformers import TextTransformer, text_encoder

from ..models.encoders.tiny_texts import hub_folder, modules, write

CLASSES = ("delivery", "payment")
WORDS = (("late", "parcel", "driver"), ("card", "charged", "amount"))
LABELS = np.arange(24) % 2
TEXTS = [f"the {WORDS[place % 2][place % 3]} is{' not' * (place % 5)} good" for place in range(24)]
ONES = np.ones(24)
PAIRS = SetFitTuning(rounds=2, learning_rate=1e-3)
WHOLE = TextFineTuning(epochs=4, learning_rate=1e-3, head_learning_rate=1e-2)
TRAININGS: dict[str, tuple[Callable[..., FeatureClassifier], Any]] = {
    "pairs": (tune_on_pairs, PAIRS),
    "whole": (fine_tune_texts, WHOLE),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextTransformer:
    folder = tmp_path_factory.mktemp("hub")
    hub_folder(folder)
    write(folder, modules=modules("Pooling", "Normalize"))
    return text_encoder(str(folder), length=16)


def trained(
    run: Run, kind: str, encoder: TextTransformer, weights: np.ndarray = ONES, **changed: Any
) -> FeatureClassifier:
    train, own = TRAININGS[kind]
    fields = type(own)(**{**own.__dict__, **changed})
    work = lambda: train(encoder, TEXTS, LABELS, weights, CLASSES, fields, run, "loop")  # noqa: E731
    return run.stage("stage", work)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", TRAININGS)
def test_it_learns_and_leaves_the_encoder_as_it_was(
    kind: str, open_run: Callable[..., Run], encoder: TextTransformer
) -> None:
    """Oracle: two words tell the classes; torch's generator and the encoder are as they were before."""
    before, state = encoder.copy(), torch.random.get_rng_state()
    whole = {"epochs": 15, "head_learning_rate": 0.05, "held_out": 0.0, "dropout": 0.0}
    more = {"rounds": 8} if kind == "pairs" else whole
    found = trained(open_run(), kind, encoder, **more)
    assert same(before, encoder) and torch.equal(state, torch.random.get_rng_state())
    assert (found.predict(TEXTS) == np.array(CLASSES)[LABELS]).mean() >= 0.8
    assert not same(found.encoder, encoder) and not found.training
    assert all(part.p == 0 for part in found.modules() if isinstance(part, torch.nn.Dropout))


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_stopped_run_is_resumed_bit_for_bit(
    kind: str, open_run: Callable[..., Run], encoder: TextTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the weights, the log and the samples of the run that was not stopped."""
    expected = trained(run := open_run("whole"), kind, encoder)
    lines, spent = run.metrics(), run.meter.snapshot()["samples"]
    run, calls = open_run("cut"), 0
    log = run.log

    def stop(**values: object) -> None:
        nonlocal calls
        log(**values)
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(run, kind, encoder)
    torch.rand(7)  # the global generator is elsewhere when the run goes on
    run = open_run("cut")
    assert same(trained(run, kind, encoder), expected) and run.meter.snapshot()["samples"] == spent
    without = [{**line, "seconds": 0} for line in lines]
    assert [{**line, "seconds": 0} for line in run.metrics()] == without


@pytest.mark.parametrize("kind", TRAININGS)
def test_samples_are_counted_and_told_before(
    kind: str, open_run: Callable[..., Run], encoder: TextTransformer
) -> None:
    """Oracle: a recount: two texts a pair, or the texts of a step, and each text once for the head."""
    run = open_run()
    trained(run, kind, encoder)
    steps = len(run.metrics())
    fields = TRAININGS[kind][1]
    each = 2 * fields.batch if kind == "pairs" else fields.batch
    assert run.meter.snapshot()["samples"] == 24 + each * steps <= fields.samples(24, 0)
    if kind == "pairs":
        assert fields.samples(24, 0) == 24 + each * steps and steps == 4  # 96 pairs, 24 a step
        assert SetFitTuning(rounds=5).samples(100, 900) == 2 * 24 * 84 + 1000  # one round: 2000 pairs
    poor = open_run("poor", budget=Budget(samples=20))
    with pytest.raises(BudgetSpent):
        trained(poor, kind, encoder)


def test_a_step_on_pairs_by_hand(open_run: Callable[..., Run], encoder: TextTransformer) -> None:
    """Oracle: the loss of the first pairs, from features of each text by itself, without dropout."""
    weights = np.where(LABELS, 3.0, 1.0)
    run = open_run()
    trained(run, "pairs", encoder, weights, dropout=0.0, batch=96)
    pairs = draw_pairs(LABELS, 2, run.rng("loop", "pairs"))
    features = encoder.embed_texts(TEXTS)
    cosines = (features[pairs.first] * features[pairs.second]).sum(1).numpy()
    of_pair = (weights[pairs.first] + weights[pairs.second]) / 2 / weights.mean()
    expected = (of_pair * (cosines - pairs.targets) ** 2).mean()
    assert run.metrics()[0]["pair_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_first_losses_of_fine_tuning(open_run: Callable[..., Run], encoder: TextTransformer) -> None:
    """Oracle: log 2 of an untrained head, times the weights, on all texts at once."""
    run = open_run()
    trained(run, "whole", encoder, np.where(LABELS, 3.0, 1.0), dropout=0.0, batch=24, held_out=0.0)
    assert run.metrics()[0]["loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert len(run.metrics()) == WHOLE.epochs


def test_a_text_without_weight_teaches_nothing(
    open_run: Callable[..., Run], encoder: TextTransformer
) -> None:
    """Oracle: the classifier of labels that are wrong where the weight is 0, against that of right ones."""
    wrong = LABELS.copy()
    wrong[:6] = 1 - wrong[:6]
    weights = np.where(np.arange(24) < 6, 0.0, 1.0)
    fields = TextFineTuning(**{**WHOLE.__dict__, "held_out": 0.0})
    found = []
    for name, labels in (("right", LABELS), ("wrong", wrong)):
        run = open_run(name)
        work = lambda: fine_tune_texts(encoder, TEXTS, labels, weights, CLASSES, fields, run, "loop")  # noqa: B023, E731
        found.append(run.stage("stage", work))
    assert same(found[0], found[1])


def test_training_ends_where_it_no_longer_helps(
    open_run: Callable[..., Run], encoder: TextTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: likelihoods of held-out texts by hand: the latest best one's weights, two epochs behind it."""
    told, seen = iter([0.5, 0.6, 0.55, 0.6, 0.1, 0.2, 0.9]), []

    def likelihood(loss: Any, at: torch.Tensor) -> float:
        assert len(at) == 6 and np.bincount(LABELS[at]).tolist() == [3, 3]
        seen.append(loss._classifier.copy())
        return next(told)

    monkeypatch.setattr(text_fine_tuning._Loss, "likelihood", likelihood)
    run = open_run()
    found = trained(run, "whole", encoder, epochs=12, patience=2, held_out=0.25)
    assert len(seen) == 6 and same(found, seen[3]) and not same(found, seen[5])
    assert len(run.metrics()) == 6 * 2, "18 texts are two batches of 12, or nearly"


def test_the_likelihood_of_held_out_texts(encoder: TextTransformer) -> None:
    """Oracle: the weighted geometric mean of the probabilities that the classifier tells."""
    head = LinearHead(width=16, classes=2)
    torch.nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(0))
    classifier = FeatureClassifier(encoder, head, CLASSES)
    weights, at = np.arange(1.0, 25.0), np.array([3, 1, 20, 8])
    loss = text_fine_tuning._Loss(classifier, encoder.tokens(TEXTS), LABELS, weights)
    right = classifier.probabilities([TEXTS[place] for place in at])[np.arange(4), LABELS[at]]
    expected = np.exp((weights[at] * np.log(right)).sum() / weights[at].sum())
    assert loss.likelihood(torch.from_numpy(at)) == pytest.approx(float(expected), rel=1e-4)


def test_features_of_any_scale_reach_the_head_alike(
    open_run: Callable[..., Run], encoder: TextTransformer, tmp_path: Path
) -> None:
    """Oracle: lengths before the logistic head, of features of length 1 and of others: 3 on average."""
    hub_folder(tmp_path / "hub")
    for place, one in enumerate((encoder, text_encoder(str(tmp_path / "hub"), length=16))):
        found = trained(open_run(f"run-{place}"), "pairs", one, head_scale=3.0)
        seen = found.encoder.embed_texts(TEXTS) / found.head.deviation
        assert float(seen.norm(dim=1).mean()) == pytest.approx(3.0, rel=1e-5)


def test_dropout_has_streams_of_its_own(open_run: Callable[..., Run], encoder: TextTransformer) -> None:
    """Oracle: the same key the same features, another key others; none outside; passes add up to 1."""
    tokens = encoder.tokens(TEXTS)
    drawn = []
    for key in (1, 1, 2):
        with dropping(encoder, 0.5, key):
            drawn.append(encoder.features(tokens))
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])
    assert torch.equal(encoder.features(tokens), encoder.features(tokens)) and not encoder.training
    head = LinearHead(width=16, classes=2)
    torch.nn.init.normal_(head.linear.weight)
    classifier = FeatureClassifier(encoder, head, CLASSES)
    passes = dropout_passes_of_texts(classifier, TEXTS, 3, 0.3, open_run(), "passes")
    assert passes.shape == (24, 3, 2) and torch.allclose(passes.sum(2), torch.ones(24, 3))
    assert passes.std(1).max() > 1e-3
    still = dropout_passes_of_texts(classifier, TEXTS, 1, 0.0, open_run(), "passes")[:, 0]
    assert torch.allclose(still, functional.softmax(head(encoder.embed_texts(TEXTS)), 1), atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(0, 0.9), st.integers(0, 9))
def test_held_out_texts_are_of_each_class_alike(sizes: list[int], share: float, seed: int) -> None:
    """Law: of each class its share but for one; some of each class stays; no place twice."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    places = held_out(labels, share, np.random.default_rng(seed))
    taken = np.bincount(labels[places], minlength=len(sizes))
    assert len(set(places.tolist())) == len(places) and (taken < sizes).all()
    whole = round(share * len(labels)) / len(labels) * np.array(sizes)
    assert ((taken <= np.ceil(whole) + 1e-9) & ((taken >= np.floor(whole) - 1e-9) | (taken == 0))).all()


@pytest.mark.parametrize(
    "fields",
    [
        SetFitTuning(rounds=0),
        SetFitTuning(dropout=1.0),
        SetFitTuning(head_scale=0.0),
        TextFineTuning(epochs=0),
        TextFineTuning(held_out=1.0),
        TextFineTuning(patience=0),
        TextFineTuning(learning_rate=0.0),
    ],
    ids=repr,
)
def test_fields_that_cannot_be_right_are_refused(fields: SetFitTuning | TextFineTuning) -> None:
    """Oracle: the class of the settings in the message; the defaults are accepted."""
    with pytest.raises(UsageError, match=type(fields).__name__):
        fields.validate()
    type(fields)().validate()
