"""What is particular to Barlow Twins: its loss falls, its views, its monitors and warnings, and its cost."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.two_views import two_views
from selfstudy.data.views import ImageViews, VectorViews, view_keys
from selfstudy.learning.collapse_watch import DeadColumns
from selfstudy.learning.pretraining import Pretraining, pretrain
from selfstudy.learning.redundancy import barlow_loss, cross_correlation
from selfstudy.methods.representation.barlow_twins import BarlowTwins
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.heads import projector
from selfstudy.tasks.images import ImageTask

MODEL = "conv?first=4&stages=2"
SMALL: dict[str, Any] = {"projector": (16, 16)}
NO_VIEWS = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)


def digits(train: int = 128) -> ImageTask:
    return selfstudy.task(f"digits?labels=20&train={train}&test=40")


def method(epochs: float = 2, batch: int = 32, **fields: Any) -> BarlowTwins:
    made = BarlowTwins(**{**SMALL, "pretraining": Pretraining(epochs=epochs, batch=batch), **fields})
    made.validate()
    return made


def fit(folder: Path, chosen: BarlowTwins, task: ImageTask, model: str = MODEL) -> Any:
    with Run(folder, {}) as run:
        start = task.prepared(selfstudy.model(model))
        return chosen.fit(task.metered(run.meter), start, run), run.metrics(), start


def test_fifty_steps_halve_the_invariance_term(tmp_path: Path) -> None:
    """Oracle: of 512 images, the mean over the last pass against that of the first step; the start is left
    as it is."""
    task = digits(512)
    chosen = method(epochs=12.5, batch=128, pretraining=Pretraining(epochs=12.5, batch=128))
    fitted, logged, start = fit(tmp_path, chosen, task)
    invariance = [line["invariance"] for line in logged]
    assert len(invariance) == 50 and np.mean(invariance[-4:]) < invariance[0] / 2
    fresh = task.prepared(selfstudy.model(MODEL))
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), fresh.parameters(), strict=True))
    assert not torch.equal(fitted.model.network[0].weight, start.network[0].weight)


def test_a_step_by_hand(tmp_path: Path) -> None:
    """Oracle: the paper's pseudo-code with the same weights and the same views, view by view: the first loss
    that is logged."""
    task, chosen = digits(), method(redundancy_weight=0.02, loss_scale=3.0)
    _, logged, start = fit(tmp_path, chosen, task)
    with Run(tmp_path, {}) as run:
        at = run.rng("pretrain", "order", 0).permutation(128)[:32]
        pixels = task.train.pixels(at)
        views = [ImageViews()(pixels, view_keys(run.key("view", i, 0), at)) for i in (1, 2)]
        head = projector(start.width, (16, 16), run.key("projector"))
    start.train()
    correlation = cross_correlation(*(head(start(view)) for view in views))
    assert logged[0]["loss"] == pytest.approx(3 * barlow_loss(correlation, 0.02).item(), rel=1e-5)
    outside = correlation[~torch.eye(16, dtype=torch.bool)]
    assert logged[0]["off_diagonal"] == pytest.approx(outside.abs().mean().item(), rel=1e-4)
    assert logged[0]["least_variance"] > 0


def test_views_are_apart_in_batch_normalisation(tmp_path: Path) -> None:
    """Oracle: networks see one view at a time: batches of 32, two a step, besides the watched images."""
    seen: list[int] = []
    encoder = digits().prepared(selfstudy.model(MODEL))
    encoder.network[0].register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0])))
    images = digits().train
    losses = method().losses(
        encoder, nn.Identity(), two_views(images, ImageViews(), ImageViews(), stream_key), DeadColumns()
    )
    losses(1, np.arange(32))
    assert seen == [32, 32]


def test_each_view_has_its_own_pipeline(tmp_path: Path) -> None:
    """Oracle: solarised second views change the first loss, as views of the same streams do not."""
    losses = [
        fit(tmp_path / str(place), method(other_views=views), digits())[1][0]["loss"]
        for place, views in enumerate((ImageViews(), ImageViews(), ImageViews(solarise=1.0)))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_row_normalise_is_another_method(tmp_path: Path) -> None:
    """Oracle: the first loss is that of embeddings of length 1; off by default."""
    assert not BarlowTwins().row_normalise
    losses = [
        fit(tmp_path / str(on), method(row_normalise=on), digits())[1][0]["loss"] for on in (False, True)
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_identical_views_are_said(tmp_path: Path) -> None:
    """Oracle: pipelines without steps; said once, and the invariance term is next to nothing."""
    with pytest.warns(UserWarning, match="views are identical") as said:
        _, logged, _ = fit(tmp_path, method(views=NO_VIEWS, other_views=NO_VIEWS), digits())
    assert len(said) == 1 and logged[0]["invariance"] < 1e-4


def test_dead_columns_are_said() -> None:
    """Oracle: one column of the projector has no weights; 100 steps later it is said with the count."""

    class Half(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * torch.tensor([1.0, 1.0, 0.0])

    images, dead = digits().train, DeadColumns()
    losses = method().losses(
        nn.Flatten(), Half(64, 3), two_views(images, ImageViews(), ImageViews(), stream_key), dead
    )
    for step in range(99):
        losses(step, np.arange(4))
    with pytest.warns(UserWarning, match="1 of 3 columns"):
        assert losses(99, np.arange(4))["least_variance"] == 0


def test_vectors_with_views_of_their_own(tmp_path: Path) -> None:
    """Oracle: two groups of vectors that noise does not mix lie apart in the embedding of a trained network
    more than in that of an untrained one."""
    stream = torch.Generator().manual_seed(0)
    kinds = torch.arange(256) % 2
    inputs = torch.randn(256, 8, generator=stream)
    inputs[:, 0] = 1.5 * (2.0 * kinds - 1)
    views = VectorViews(noise=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    head = projector(8, (16, 16), 3)

    def apart() -> float:
        features = encoder(inputs).detach()
        middles = [features[kinds == kind].mean(0) for kind in (0, 1)]
        return float((middles[0] - middles[1]).norm() / features.std(0).norm())

    before = apart()
    with Run(tmp_path, {}) as run:
        keys = lambda which, step, at: view_keys(run.key("view", which, step), at)  # noqa: E731
        losses = method().losses(
            encoder,
            head,
            lambda step, at: tuple(views(inputs[at], keys(i, step, at)) for i in (1, 2)),
            DeadColumns(),
        )
        found = pretrain(
            run,
            {"encoder": encoder, "projector": head},
            losses,
            samples=256,
            settings=Pretraining(epochs=10, batch=64),
            watched=lambda: encoder(inputs).detach(),
        )
    assert found == {"steps": 40, "collapsed_at": None} and apart() > before


def test_cost_and_trial(tmp_path: Path) -> None:
    """Oracle: what the run's meter has counted in the end; a trial leaves the model as it is."""
    task, chosen = digits(), method()
    start = task.prepared(selfstudy.model(MODEL))
    weights = [weight.clone() for weight in start.parameters()]
    step, count = chosen.trial(task, start)
    step()
    with Run(tmp_path, {}) as run:
        chosen.fit(task.metered(run.meter), start, run)
        spent = run.meter.snapshot()
    asked = chosen.cost(task, start)
    assert spent["samples"] == asked["samples"] == 256 and count == 8
    assert spent["flops"] == pytest.approx(asked["flops"])
    assert all(torch.equal(a, b) for a, b in zip(weights, start.parameters(), strict=True))


def test_flops_of_a_step_grow_as_they_should() -> None:
    """Oracle: in proportion to the batch; the product of the embeddings adds 6 B D^2 with its gradients."""
    task = digits()
    start = task.prepared(selfstudy.model(MODEL))

    def flops(batch: int, width: int) -> float:
        return method(epochs=1, batch=batch, projector=(width,)).cost(task, start)["flops"]

    assert flops(32, 16) == pytest.approx(flops(64, 16))  # half as many steps
    heads = [6 * 2 * 128 * start.width * width for width in (16, 64)]
    products = [6 * 128 * width**2 for width in (16, 64)]
    assert flops(32, 64) - flops(32, 16) == pytest.approx(heads[1] + products[1] - heads[0] - products[0])


# Bad input.


@pytest.mark.parametrize(
    "fields",
    [
        {"redundancy_weight": 0.0},
        {"loss_scale": -1.0},
        {"projector": ()},
        {"projector": (8, 0)},
        {"pretraining": Pretraining(batch=1)},
        {"other_views": ImageViews(flip=1.5)},
    ],
)
def test_refused_fields(fields: dict[str, Any]) -> None:
    """Oracle: a UsageError that names the field."""
    name, _ = next(iter(fields.items()))
    words = {"pretraining": "batch", "other_views": "flip"}
    with pytest.raises(UsageError, match=words.get(name, name.replace("_", "."))):
        method(**fields)


def test_fewer_images_than_a_batch(tmp_path: Path) -> None:
    """Oracle: both numbers in the message, before any stage."""
    with pytest.raises(DataError, match=r"20 unlabelled.*batch of 32"):
        fit(tmp_path, method(), digits(20))
    assert not (tmp_path / "stages").exists()


def test_other_channels(tmp_path: Path) -> None:
    """Oracle: the message has both numbers of channels."""
    with pytest.raises(UsageError, match=r"3 channels.*1 channels"), Run(tmp_path, {}) as run:
        method().fit(digits(), selfstudy.model("conv?channels=3&size=8"), run)


def test_constant_images(tmp_path: Path) -> None:
    """Oracle: features of images that are all the same never differ."""
    splits = {
        split: ImageSet("grey", np.full((64, 1, 8, 8), 9, np.uint8), np.zeros(64, np.int64))
        for split in ("train", "validation", "test")
    }
    task = ImageTask("grey", splits, splits["train"].only(slice(0)))
    with pytest.raises(DataError, match="all alike"):
        fit(tmp_path, method(), task)


def test_collapse_is_found_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: features that vanish from the third look on; the weights of the second come back."""
    looks, original = itertools.count(), ImageEncoder.embed_pixels

    def vanishing(self: ImageEncoder, images: torch.Tensor) -> torch.Tensor:
        return original(self, images) * (next(looks) < 2)

    monkeypatch.setattr(ImageEncoder, "embed_pixels", vanishing)
    fitted, logged, _ = fit(tmp_path / "long", method(epochs=4), digits())
    assert fitted.metrics["collapsed_at"] == 8 and logged[-1]["collapsed_at"] == 8
    monkeypatch.setattr(ImageEncoder, "embed_pixels", original)
    assert torch.isfinite(fitted.model.embed_pixels(digits().train.pixels(slice(4)))).all()
