"""What is particular to PS-KD: plain training as its limit, its memory in the loop, its stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.index import METHODS
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.mixed_images import MIXES
from selfstudy.data.views import ImageViews
from selfstudy.learning.distillation import soft_cross_entropy
from selfstudy.learning.supervised import Seen, Supervised, new_classifier, supervise
from selfstudy.methods.distillation import ps_kd as module
from selfstudy.methods.distillation.ps_kd import PsKd
from selfstudy.tasks.images import ImageTask

PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=12, batch=8, views=PLAIN)  # 40 images: epochs of 5 steps


def task(**fields: Any) -> ImageTask:
    given = {"labels": 40, "train": 100, "test": 40, **fields}
    return selfstudy.task("digits?" + "&".join(f"{name}={value}" for name, value in given.items()))


def fit(folder: Path, made: ImageTask, training: Supervised = QUICK, **fields: Any) -> tuple[Fit, list[Any]]:
    method = PsKd(training=training, **fields)
    method.validate()
    with Run(folder, {}, checkpoint_seconds=0) as run:
        start = made.prepared(selfstudy.model("mlp?hidden=16"))
        fitted = method.fit(made.metered(run.meter), start, run)
        return fitted, [line for line in run.metrics() if line["stage"] == "classifier"]


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("storage", ["dense", "topk", "network"])
def test_without_alpha_it_is_plain_training(storage: Any, tmp_path: Path) -> None:
    """Oracle: cross-entropy with one-hot rows in the same loop, to the bit; torch's own to rounding."""
    made = task()
    mine, lines = fit(tmp_path / "a", made, alpha=0.0, storage=storage)

    def plain(name: str, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Any:
        with Run(tmp_path / name, {}) as run:
            start = made.prepared(selfstudy.model("mlp?hidden=16"))
            found = new_classifier(start, made.labelled, run.key("heads"))

            def losses(seen: Seen) -> dict[str, torch.Tensor]:
                return {"loss": loss(found(seen.images), seen.labels)}

            run.stage("plain", lambda: supervise(run, found, losses, made.labelled, QUICK))
            return found, [line["loss"] for line in run.metrics()]

    found, losses = plain(
        "b", lambda scores, labels: soft_cross_entropy(scores, torch.eye(10)[labels]).mean()
    )
    assert [line["loss"] for line in lines] == losses and same(mine.model, found)
    assert plain("c", functional.cross_entropy)[1] == pytest.approx(losses, abs=1e-5)


def test_alpha_and_the_label_over_the_epochs(tmp_path: Path) -> None:
    """Oracle: three epochs of five steps by hand; in the first the target is the label, later it is not."""
    _, lines = fit(tmp_path, task())
    assert [line["alpha"] for line in lines] == pytest.approx([0.8 / 3] * 5 + [1.6 / 3] * 5 + [0.8] * 2)
    assert all(line["label"] == 1 for line in lines[:5]) and all(line["label"] < 1 for line in lines[5:])
    _, plain = fit(tmp_path / "plain", task(), alpha=0.0)
    told = [[line["loss"] for line in run] for run in (plain, lines)]
    assert told[0][:5] == told[1][:5] and told[0][5] != told[1][5]


def test_predictions_are_those_of_training_an_epoch_ago(tmp_path: Path) -> None:
    """Oracle: without a learning rate to speak of and without views the memory holds the untrained network's
    predictions, so that the network of before gives the same targets."""
    still = Supervised(steps=12, batch=8, views=PLAIN, learning_rate=1e-12)
    kept, lines = fit(tmp_path / "a", task(), still)
    _, asked = fit(tmp_path / "b", task(), still, storage="network")
    assert [line["label"] for line in lines] == pytest.approx([line["label"] for line in asked], abs=1e-6)
    made = task()
    with torch.no_grad():
        said = kept.model(made.labelled.pixels(slice(None))).softmax(1)
    mean = said[torch.arange(40), torch.from_numpy(made.labelled.labels)].mean()
    second = np.mean([line["label"] for line in lines[5:10]])
    assert second == pytest.approx(1 - 1.6 / 3 + 1.6 / 3 * float(mean), abs=0.01)


def test_a_constant_weight(tmp_path: Path) -> None:
    """Oracle: with the untrained network's predictions 1 - 0.4 + 0.4 p is left of the label from the second
    epoch on, and alpha is 0.4 in all of them."""
    still = Supervised(steps=12, batch=8, views=PLAIN, learning_rate=1e-12)
    made = task()
    kept, lines = fit(tmp_path, made, still, alpha=0.4, shape="constant")
    said = kept.model.scores(made.labelled.pixels(slice(None))).softmax(1)
    mean = float(said[torch.arange(40), torch.from_numpy(made.labelled.labels)].mean())
    assert [line["alpha"] for line in lines] == pytest.approx([0.4] * 12)
    assert np.mean([line["label"] for line in lines[5:10]]) == pytest.approx(0.6 + 0.4 * mean, abs=1e-3)


def test_stores_agree_where_they_keep_all(tmp_path: Path) -> None:
    """Oracle: the ten largest of ten classes are all of them; half precision rounds and does no more."""
    dense, _ = fit(tmp_path / "a", task())
    most, _ = fit(tmp_path / "b", task(), storage="topk", top=10)
    few, _ = fit(tmp_path / "c", task(), storage="topk", top=1)
    halves, _ = fit(tmp_path / "d", task(), precision="float16")
    inputs = task().labelled.pixels(slice(None))
    assert torch.allclose(dense.model.scores(inputs), most.model.scores(inputs), atol=1e-4)
    assert not torch.allclose(dense.model.scores(inputs), few.model.scores(inputs), atol=1e-4)
    assert not same(dense.model, halves.model)
    assert torch.allclose(dense.model.scores(inputs), halves.model.scores(inputs), atol=1e-2)


def test_smoothing(tmp_path: Path) -> None:
    """Oracle: 1 - 0.1 + 0.1 / 10 is left of each label under smoothing alone."""
    _, lines = fit(tmp_path, task(), alpha=0.0, smoothing=0.1)
    assert [line["label"] for line in lines] == pytest.approx([0.91] * 12)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_targets_are_mixed_and_the_larger_part_remembers(mix: Any) -> None:
    """Oracle: a step of the second epoch by hand: the refined targets, not the labels, are mixed by the share
    of the images; what was said goes to the image with the larger part, and to no other."""
    made, method = task(), PsKd(training=QUICK, mix=mix)
    start = made.prepared(selfstudy.model("mlp?hidden=16"))
    classifier = new_classifier(start, made.labelled)
    losses, state = method._losses(classifier, made, lambda _, step: np.random.default_rng(31 + step))
    memory = state["targets"].memory  # type: ignore[attr-defined]
    before = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(10), 40)).float()
    shares = []
    for step in (5, 6):
        memory.write(np.arange(40), before)
        places = np.arange(step, step + 8)
        some = made.labelled.only(places)
        seen = Seen(step, places, some.pixels(slice(None)), torch.from_numpy(some.labels))
        mixed = MIXES[mix](seen.images, np.random.default_rng(31 + step))
        wanted = (1 - 1.6 / 3) * torch.eye(10)[seen.labels] + 1.6 / 3 * before[places]
        wanted = mixed.share * wanted + (1 - mixed.share) * wanted[mixed.order]
        scores = classifier(mixed.images)
        assert torch.allclose(losses(seen)["loss"], functional.cross_entropy(scores, wanted), atol=1e-6)
        theirs = places if mixed.share >= 0.5 else places[mixed.order.numpy()]
        after = before.clone()
        after[theirs] = scores.detach().softmax(1)
        assert torch.allclose(memory.read(np.arange(40)), after, atol=1e-6)
        shares.append(mixed.share)
    assert min(shares) < 0.5 < max(shares)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_images_change_the_training_and_not_the_seed(mix: Any, tmp_path: Path) -> None:
    """Oracle: the same weights twice, and others than without mixing."""
    first, _ = fit(tmp_path / "a", task(), mix=mix)
    again, _ = fit(tmp_path / "b", task(), mix=mix)
    plain, _ = fit(tmp_path / "c", task())
    assert same(first.model, again.model) and not same(first.model, plain.model)


@pytest.mark.parametrize("fields", [{}, {"storage": "network"}, {"storage": "topk", "precision": "float16"}])
def test_stopped_and_resumed(fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the run that was not stopped; the memory, or the network of before, is in the checkpoint."""
    whole, lines = fit(tmp_path / "whole", task(), **fields)
    loss, calls = module.soft_cross_entropy, []

    def stopping(*given: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(module, "soft_cross_entropy", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", task(), **fields)
    resumed, again = fit(tmp_path / "cut", task(), **fields)
    assert same(whole.model, resumed.model)
    assert [line["loss"] for line in again] == [line["loss"] for line in lines]


def test_figures_and_pictures(tmp_path: Path) -> None:
    """Oracle: five figures of validation images, the same as `judged` gives; labels that are not learned."""
    made = task(noise=0.2)
    found, _ = fit(tmp_path, made)
    right = made.judged(found.model, split="validation").right
    assert found.metrics["error, %, trained, validation"] == pytest.approx(100 * (1 - right.mean()))
    told = found.model.classify(made.labelled.pixels(slice(None))).numpy()
    assert found.metrics["labels_doubted"] == pytest.approx((told != made.labelled.labels).mean())
    assert [picture["title"] for picture in found.pictures] == [
        "How targets are refined",
        "As sure as right?",
        "Errors left when doubtful answers are withheld",
    ]


def test_cost(tmp_path: Path) -> None:
    """Oracle: the meter; the network of before is asked from the second epoch on, a third of a step each, so
    that seven such steps of twelve are 2 1/3 more of the timed ones."""
    for storage, steps in (("dense", 12), ("network", 14)):
        method, made = PsKd(training=QUICK, storage=storage), task()
        with Run(tmp_path / storage, {}) as run:
            start = made.prepared(selfstudy.model("mlp?hidden=16"))
            method.fit(made.metered(run.meter), start, run)
            spent = run.meter.snapshot()
        for unit, amount in method.cost(made, start).items():
            assert spent[unit] == pytest.approx(amount), (storage, unit)
        assert method.trial(made, start)[1] == steps


def test_bad_fields_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each is named before any work; the refusal of numbers names guided-self-distillation."""
    for wrong in ({"alpha": 1.2}, {"alpha": -0.1}, {"smoothing": 1.0}, {"top": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            PsKd(**wrong).validate()
    assert "guided-self-distillation" in METHODS["ps-kd"].needs
    made = task()
    made.labelled.labels[3] = 12
    with pytest.raises(DataError, match="The label 12 of image 3"):
        fit(tmp_path / "b", made)
    monkeypatch.setattr(module, "LARGE", 100)
    with pytest.warns(UserWarning, match="--storage topk"):
        fit(tmp_path / "c", task())
