"""A user's images and texts as workloads: what is trained, on what, and how it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.workloads import TensorWorkload
from selfstudy.models.encoders.text_transformers import text_encoder
from selfstudy.tasks.own_workloads import own_workload

from ..models.encoders.tiny_texts import hub_folder

TEXTS = "pool:messages?labels=24"
BERT = "small-bert?layers=1&width=16&heads=2&vocabulary=300&length=64"


def made(task: Any, encoder: Any) -> TensorWorkload:
    return own_workload(task, encoder, target=0.3, step_hint=10, batch=8)


@pytest.fixture(scope="module", params=["small", "hub"])
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A task and an encoder: one made from scratch, one in the layout of the hub."""
    task = selfstudy.task(TEXTS)
    if request.param == "small":
        return task, task.prepared(selfstudy.model(BERT))
    folder = tmp_path_factory.mktemp("hub")
    hub_folder(folder)
    return task, text_encoder(str(folder), length=24)


def test_losses_of_texts(texts: tuple[Any, Any], tmp_path: Path) -> None:
    """Oracle: the cross-entropy of each text by itself, without padding, from the classifier's own parts."""
    task, encoder = texts
    workload = made(task, encoder)
    model: Any = workload.first_model(3)
    with Run(tmp_path / "run", {}) as run:
        batch = workload.examples(run, "trial", 0, 8)
        places = [int((workload.inputs == row).flatten(1).all(1).nonzero()[0, 0]) for row in batch.inputs]
    if encoder.length == 64:  # texts end before that, at different places
        assert len(set(batch.inputs[:, 1].sum(1).tolist())) > 1
    found = workload.losses(model.train(), batch)
    for loss, place in zip(found, places, strict=True):
        at = int(task.labelled[place])
        scores = model.head(model.encoder.features(model.encoder.tokens([task.pool.texts[at]])))
        wanted = torch.nn.functional.cross_entropy(scores, torch.tensor([task.given[at]]))
        assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    found.mean().backward()
    assert any(
        bool(weight.grad.abs().max() > 0) for weight in model.encoder.parameters() if weight.grad is not None
    )
    assert torch.equal(found, workload.losses(model.train(), batch))  # nothing is dropped


def test_first_networks_of_texts(texts: tuple[Any, Any]) -> None:
    """Oracle: one key gives one head, another key another; the encoder is the one that was given, and stays
    so when a copy is trained; features come to the head with mean 0 and deviation 1."""
    task, encoder = texts
    workload = made(task, encoder)
    first, again, other = (workload.first_model(key) for key in (8, 8, 10))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.layers[0].weight, other.head.layers[0].weight)  # type: ignore[union-attr]
    before = [weight.clone() for weight in encoder.parameters()]
    with torch.no_grad():
        for weight in first.parameters():
            weight += 1
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    head: Any = other.head
    features = encoder.embed_texts(task.pool.only(task.labelled).texts)
    scaled = (features - head.mean) / head.deviation
    assert torch.allclose(scaled.mean(0), torch.zeros(16), atol=1e-4)
    assert torch.allclose(scaled.std(0), torch.ones(16), atol=1e-3)


def test_the_metric_is_the_share_of_validation_items_told_wrong(texts: tuple[Any, Any]) -> None:
    """Oracle: names told by the classifier, counted; test items have no figure."""
    task, encoder = texts
    workload = made(task, encoder)
    model: Any = workload.first_model(1)
    held = task._held["validation"]
    told = np.array(model.predict(list(held.texts)))
    wrong = np.mean(told != np.array(task.classes)[held.labels])
    assert workload.evaluate(model, "validation") == pytest.approx(wrong)
    assert workload.evaluate(model, "test") is None
    assert workload.step_cost(100) == {"samples": 24}


def test_a_workload_of_images() -> None:
    """Oracle: the labelled images, and operations in proportion to them."""
    task = selfstudy.task("digits?labels=40&train=100&test=40")
    workload = made(task, task.prepared(selfstudy.model("mlp?hidden=8")))
    assert torch.equal(workload.inputs, task.labelled.pixels(slice(None))) and workload.name == "digits"
    assert workload.step_cost(8)["flops"] == 8 * workload.step_cost(1)["flops"] > 0


def test_what_is_refused() -> None:
    """Oracle: the error names what is missing: a class without a label, items to validate on."""
    task = selfstudy.task(TEXTS)
    encoder = task.prepared(selfstudy.model(BERT))
    task.given = np.where(task.given == 0, UNKNOWN, task.given)
    with pytest.raises(DataError, match=task.classes[0]):
        made(task, encoder)
    bare = selfstudy.task(TEXTS)
    bare._held["validation"] = bare._held["validation"].only(slice(0))
    with pytest.raises(DataError, match="no validation items"):
        made(bare, encoder)
