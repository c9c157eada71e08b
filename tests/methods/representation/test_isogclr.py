"""What is particular to iSogCLR: its objectives, the temperatures it gives, its queue, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.app.saving import load
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.long_tail import long_tail_counts
from selfstudy.data.views import view_keys
from selfstudy.learning.contrastive import nt_xent
from selfstudy.learning.pretraining import Pretraining
from selfstudy.learning.temperatures import IndividualTemperatures, TemperatureLearning
from selfstudy.methods.representation.isogclr import Isogclr
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.heads import projector
from selfstudy.tasks.images import ImageTask

TASK = "digits?train=96&labels=40&test=40"


def task(spec: str = TASK) -> ImageTask:
    return selfstudy.task(spec)


def encoder(made: ImageTask) -> ImageEncoder:
    return made.prepared(selfstudy.model("conv?first=4&stages=2"))


def method(**fields: Any) -> Isogclr:
    plan = {"epochs": 2, "batch": 32, "learning_rate": 1e-3, **fields.pop("pretraining", {})}
    return Isogclr(**{"projector": (8, 8), "pretraining": Pretraining(**plan), **fields})


def fit(folder: Path, made: Isogclr, spec: str = TASK, **options: Any) -> tuple[Any, Run]:
    made.validate()
    on = task(spec)
    with Run(folder, {}, checkpoint_steps=1, **options) as run:
        return made.fit(on.metered(run.meter), encoder(on), run), run


def test_every_image_gets_a_temperature(tmp_path: Path) -> None:
    """Oracle: one for each of the 96 images, within bounds, all moved; the start is left as it is; figures
    and pictures of them; saved where they are found again."""
    on, made = task(), method()
    start = encoder(on)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    fitted = selfstudy.fit(
        "isogclr",
        task=on,
        model=start,
        out=tmp_path,
        projector=(8, 8),
        pretraining={"epochs": 2, "batch": 32},
    )
    found = fitted.parts["temperatures"].by_input
    assert found.shape == (96,) and (found >= 0.05).all() and (found <= 1).all() and (found != 0.2).all()
    assert fitted.metrics["mean temperature"] == pytest.approx(found.mean())
    assert fitted.metrics["lowest temperature"] == found.min()
    assert fitted.metrics["steps"] == 6 and fitted.metrics["collapsed_at"] is None
    assert np.array_equal(load(tmp_path, "temperatures").by_input, found)
    assert all(torch.equal(start.state_dict()[name], value) for name, value in before.items())
    titles = [picture["title"] for picture in fitted.pictures]
    assert titles[:4] == [
        "Temperatures of the images",
        "Highest and lowest temperatures",
        "Temperatures on the way",
        "Temperatures by class",
    ]
    by_class = {name: value for name, value in fitted.metrics.items() if name.startswith("temperatures, ")}
    assert len(by_class) == 10
    counts = [int(name.split("(")[1].split()[0]) for name in by_class]
    assert sum(counts) == 96
    assert np.dot(counts, list(by_class.values())) / 96 == pytest.approx(found.mean(), rel=1e-5)
    assert len(json.dumps(fitted.pictures)) < 300_000 and made == method()


@pytest.mark.parametrize("queue", [0, 16])
@pytest.mark.parametrize("objective", ["isogclr", "sogclr", "simclr"])
def test_killed_and_resumed(
    objective: Any, queue: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the run that was not cut off: encoder and temperatures bit for bit, and the log."""
    made = method(objective=objective, queue=queue)
    whole, run = fit(tmp_path / "whole", made)
    lines = run.metrics()
    log = Run.log

    def cut(self: Run, **values: Any) -> None:
        log(self, **values)
        if values.get("step") == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "log", cut)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", made)
    monkeypatch.undo()
    again, run = fit(tmp_path / "cut", made)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)
    for name, part in whole.parts.items():
        for key, value in part.state_dict().items():
            assert torch.equal(again.parts[name].state_dict()[key], value)
    for line, other in zip(run.metrics(), lines, strict=True):
        assert {**line, "seconds": 0} == {**other, "seconds": 0}


def test_the_first_step_of_simclr(tmp_path: Path) -> None:
    """Oracle: NT-Xent of the two views' embeddings, made by hand: the loss of step 0."""
    made, on = method(objective="simclr", temperature=0.3), task()
    _, run = fit(tmp_path, made)
    network = torch.nn.Sequential(
        encoder(on), projector(8, (8, 8), run.key("projector"), normalised=False)
    ).train()
    at = run.rng("pretrain", "order", 0).permutation(96)[:32]
    views = [made.views(on.train.pixels(at), view_keys(run.key("view", view, 0), at)) for view in (1, 2)]
    expected = nt_xent(*network(torch.cat(views)).chunk(2), 0.3)
    assert run.metrics()[0]["loss"] == pytest.approx(float(expected.detach()), rel=1e-6)


def test_fixed_temperatures_are_sogclr(tmp_path: Path) -> None:
    """Oracle: the weights of isogclr at rate 0; temperatures that did not move; the rate alone differs."""
    fixed = method(individual=TemperatureLearning(rate=0.0))
    first, _ = fit(tmp_path / "isogclr", fixed)
    second, _ = fit(tmp_path / "sogclr", method(objective="sogclr"))
    third, _ = fit(tmp_path / "learned", method())
    states = [fitted.model.state_dict() for fitted in (first, second, third)]
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())
    assert any(not torch.equal(states[2][name], value) for name, value in states[0].items())
    assert np.array_equal(second.parts["temperatures"].by_input, np.full(96, 0.2, dtype=np.float32))
    assert second.parts["temperatures"].visited.all()


def test_a_queue_is_used(tmp_path: Path) -> None:
    """Oracle: with keys of earlier images the loss of step 0 is another one, and temperatures move."""
    plain, run = fit(tmp_path / "plain", method())
    queued, other = fit(tmp_path / "queued", method(queue=64))
    assert run.metrics()[0]["loss"] != other.metrics()[0]["loss"]
    assert (queued.parts["temperatures"].by_input != 0.2).all()
    assert not np.array_equal(plain.parts["temperatures"].by_input, queued.parts["temperatures"].by_input)


def test_low_precision(tmp_path: Path) -> None:
    """Oracle: finite, and near the losses in float32."""
    _, run = fit(tmp_path / "full", method())
    fitted, low = fit(tmp_path / "low", method(pretraining={"precision": "bf16"}))
    assert np.isfinite(fitted.parts["temperatures"].by_input).all()
    assert low.metrics()[0]["loss"] == pytest.approx(run.metrics()[0]["loss"], abs=0.05)
    assert run.metrics()[0]["loss"] != low.metrics()[0]["loss"]


def test_what_it_costs(tmp_path: Path) -> None:
    """Oracle: the meter of the fit; a trial that does not change the model."""
    for queue in (0, 16):
        made, on = method(queue=queue), task()
        start = encoder(on)
        before = start.state_dict()["network.0.weight"].clone()
        step, count = made.trial(on, start)
        step()
        _, run = fit(tmp_path / str(queue), made)
        spent = run.meter.snapshot()
        assert count == 6 and made.cost(on, start) == pytest.approx(
            {key: spent[key] for key in ("samples", "flops")}
        )
        assert torch.equal(start.state_dict()["network.0.weight"], before)


def test_a_long_tailed_task() -> None:
    """Oracle: the counts of the formula; the name makes the task again; what is trained on has no labels."""
    on = task("digits?tail=0.1&labels=40&train=300")
    counts = np.bincount(on._train_labels, minlength=10)
    most = int(counts.max())
    assert sorted(counts, reverse=True) == long_tail_counts(most, 10, 0.1).tolist()
    assert long_tail_counts(most, 10, 0.1).sum() <= 300 < long_tail_counts(most + 1, 10, 0.1).sum()
    again = selfstudy.task(on.name)
    assert again.name == on.name and np.array_equal(again.train.images, on.train.images)
    assert (on.train.labels == -1).all()
    other = task("digits?tail=0.1&labels=40&train=300&draw=1")
    assert not np.array_equal(np.bincount(other._train_labels, minlength=10), counts)


def test_images_that_were_added(tmp_path: Path) -> None:
    """Oracle: the state of fewer images is refused with both numbers, and taken with `allow_new_images`."""
    saved = IndividualTemperatures(64, 0.2, TemperatureLearning()).state_dict()
    for allowed in (False, True):
        made, on = method(allow_new_images=allowed), task()
        learner = made._learner(on, encoder(on), lambda *name: stream_key(*name))
        if allowed:
            learner.temperatures.load_state_dict(saved)
        else:
            with pytest.raises(DataError, match="64 training inputs; the data have 96"):
                learner.temperatures.load_state_dict(saved)


def test_too_few_images(tmp_path: Path) -> None:
    """Oracle: the message has both numbers; no stage was begun."""
    with pytest.raises(DataError, match="96 unlabelled inputs, fewer than one batch of 128"):
        fit(tmp_path, method(pretraining={"batch": 128}))
    assert not (tmp_path / "stages").exists()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 0.01}, "between their bounds"),
        ({"individual": TemperatureLearning(rho=0.0)}, "rho"),
        ({"individual": TemperatureLearning(rho=4.2)}, "log 62"),
        ({"queue": 8, "individual": TemperatureLearning(rho=2.2)}, "log 9"),
        ({"individual": TemperatureLearning(least=0.0)}, "least"),
        ({"pretraining": {"batch": 3}}, "at least 4"),
        ({"projector": ()}, "projector"),
        ({"queue": -1}, "queue"),
        ({"key_momentum": 1.0}, "momentum"),
    ],
)
def test_fields_that_cannot_be_right(fields: dict[str, Any], word: str) -> None:
    """Oracle: the message."""
    with pytest.raises(UsageError, match=word):
        method(**fields).validate()


def test_fixed_temperatures_know_no_bounds() -> None:
    """Oracle: nothing is raised where no temperature is learned."""
    for objective in ("sogclr", "simclr"):
        method(objective=objective, temperature=2.0, individual=TemperatureLearning(rho=9.0)).validate()
