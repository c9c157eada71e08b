"""HAST with an encoder that is trained whole: the same loop, on a tiny BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Texts
from selfstudy.data.oracles import HiddenLabels
from selfstudy.learning.text_fine_tuning import TextFineTuning
from selfstudy.learning.text_learners import TextLearner
from selfstudy.learning.text_tuning import SetFitTuning
from selfstudy.methods.pseudolabels.hast import Hast
from selfstudy.models.encoders.text_transformers import TextTransformer, text_encoder
from selfstudy.signals.evidence import PseudoLabels
from selfstudy.tasks.pools import PoolTask

from ..models.encoders.tiny_texts import hub_folder

CLASSES = ("late", "broken")
WORDS = {0: ("late", "driver", "parcel", "lost"), 1: ("seam", "broken", "colour", "faded")}
SETFIT, CROSS_ENTROPY = SetFitTuning(rounds=1, batch=4), TextFineTuning(epochs=1, batch=4)


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextTransformer:
    torch.set_num_threads(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_folder(tmp_path / "hub")
    return text_encoder(str(tmp_path / "hub"), length=8)


def pool(count: int = 40) -> PoolTask:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    texts = tuple(" ".join(rng.permutation([*WORDS[int(label)], "the", "my"])[:4]) for label in labels)
    whole = Texts("notes", texts, labels, CLASSES)
    given = np.where(np.arange(count) < 8, labels, UNKNOWN)
    splits: Any = {"validation": whole.only(slice(10)), "test": whole.only(slice(10))}
    return PoolTask("notes", whole, given, CLASSES, splits, HiddenLabels(labels, CLASSES))


def fit(folder: Path, encoder: TextTransformer, **fields: Any) -> Fit:
    method = Hast(queries=1, batch=4, setfit=SETFIT, fine_tuning=CROSS_ENTROPY, **fields)
    task = pool()
    with Run(folder, {}) as run:
        return method.fit(task.metered(run.meter), encoder, run)


@pytest.mark.parametrize("classifier", ["setfit", "fine-tuning"])
@pytest.mark.parametrize("selector", ["hast", "ust"])
def test_the_loop(classifier: Any, selector: Any, encoder: TextTransformer, tmp_path: Path) -> None:
    """Oracle: labels and sources by hand; the encoder that was given stays, the one returned has changed; the
    same again when the run is gone through anew."""
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    fields: dict[str, Any] = {
        "classifier": classifier,
        "pseudo": PseudoLabels(selector=selector, neighbours=5),
    }
    found = fit(tmp_path / "run", encoder, **fields)
    assert [row["labels"] for row in found.metrics["curve"]] == [8, 12]
    assert found.parts["labels"].sources.count("asked") == 4
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    moved = found.model.encoder.state_dict()
    assert any(not torch.equal(before[name], value) for name, value in moved.items())
    again = fit(tmp_path / "run", encoder, **fields)
    assert all(torch.equal(moved[name], value) for name, value in again.model.encoder.state_dict().items())
    assert again.metrics == found.metrics


def test_looks_read_the_pool_once(
    encoder: TextTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the classifier's own scores, and a count of the texts that are embedded."""
    task, read = pool(), []
    learner = TextLearner(encoder, task.pool, CLASSES, SETFIT)  # type: ignore[arg-type]
    with Run(tmp_path / "run", {}) as run:
        at = task.labelled
        trained = run.stage(
            "trained", lambda: learner.train(at, task.given[at], np.ones(8), run, ("some", 0), pseudo=2)
        )
        assert run.meter.snapshot()["samples"] == SETFIT.samples(6, 2)
    embed = TextTransformer.embed_texts

    def counting(self: TextTransformer, texts: Any) -> torch.Tensor:
        read.append(len(texts))
        return embed(self, texts)

    monkeypatch.setattr(TextTransformer, "embed_texts", counting)
    places = np.array([3, 30, 7])
    seen = learner.look(trained, places)
    learner.look(trained, np.arange(10))
    assert read == [40]
    assert torch.allclose(seen.probabilities, trained.scores(task.pool.only(places)), atol=1e-6)


@pytest.mark.parametrize("settings", [SETFIT, CROSS_ENTROPY])
def test_a_trial(settings: Any, encoder: TextTransformer) -> None:
    """Oracle: a step leaves the encoder that was given without gradients; the steps are the samples of a
    training in batches of 8, four pairs, or of 4."""
    task = pool()
    learner = TextLearner(encoder, task.pool, CLASSES, settings)  # type: ignore[arg-type]
    step, count = learner.trial(task.labelled, task.given[:8])
    step()
    assert all(value.grad is None for value in encoder.parameters())
    batch = 8 if settings is SETFIT else 4
    assert count == -(-settings.samples(8, 0) // batch)
