"""What is particular to GPICL: memorising and learning, the plateau, the curricula, the map."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.in_context_curves import learned
from selfstudy.methods.mechanisms.gpicl import Gpicl
from selfstudy.models.in_context.sequences import SequenceTransformer
from selfstudy.tasks.projected_images import ProjectedImages, projected_images

SMALL: dict[str, Any] = {"map_tasks": (), "map_widths": (), "looks": 2, "items": 64, "elsewhere": ""}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def task(**fields: Any) -> ProjectedImages:
    """Two far clusters in 8 numbers: what can be learned in seconds."""
    easy = {"base": "clusters", "labels": "0,1", "classes": 2, "inputs": 8, "context": 8, "bias": 0.0}
    return projected_images(**{**easy, **fields})


def model(**fields: Any) -> SequenceTransformer:
    sizes = {"inputs": 8, "classes": 2, "layers": 2, "width": 32, "positions": 9}
    return SequenceTransformer(**{**sizes, **fields})


def fit(folder: Path, made: ProjectedImages, start: SequenceTransformer, **fields: Any) -> Any:
    method = Gpicl(**{**SMALL, **fields})
    method.validate()
    with Run(folder, {}) as run:
        return method.fit(made.metered(run.meter), start, run), run


def test_many_tasks_teach_to_learn(tmp_path: Path) -> None:
    """Oracle: on 512 new sequences of new tasks, chance at position 1 within 3 standard errors, and 20 points
    more at the last; the start is left as it is."""
    made, start = task(tasks=65536), model()
    before = {name: weight.clone() for name, weight in start.state_dict().items()}
    fitted, _ = fit(tmp_path, made, start, steps=400, warmup=50, learning_rate=3e-3)
    curve = made.accuracy_curve(fitted.model, "test")
    assert abs(curve[0] - 0.5) < 3 * math.sqrt(0.25 / 512)
    assert learned(curve) > 0.2 and fitted.metrics["phase"] == "learn"
    assert 0 < fitted.metrics["plateau_left_at"] < 400
    assert all(torch.equal(start.state_dict()[name], weight) for name, weight in before.items())


def test_few_tasks_are_memorised(tmp_path: Path) -> None:
    """Oracle: one task is known at position 1, and nothing is learned on new ones."""
    made = task(tasks=1)
    fitted, _ = fit(tmp_path, made, model(), steps=120, warmup=20, learning_rate=3e-3)
    assert fitted.metrics["phase"] == "memorise"
    assert fitted.metrics["seen tasks, seen images"]["first"] > 0.9
    assert learned(made.accuracy_curve(fitted.model, "test")) < 0.1


@pytest.mark.parametrize("curriculum", ["none", "tasks", "length"])
def test_what_grows(curriculum: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: sizes of each batch by hand: from 1 task or 2 positions to all of them at half of the steps."""
    sizes: list[tuple[int | None, int | None]] = []
    draw = ProjectedImages.batch

    def noted(self: ProjectedImages, size: int, rng: np.random.Generator, **grown: int) -> Any:
        sizes.append((grown.get("tasks"), grown.get("length")))
        return draw(self, size, rng, **grown)

    monkeypatch.setattr(ProjectedImages, "batch", noted)
    fit(tmp_path, task(tasks=256), model(), steps=8, batch=4, curriculum=curriculum)
    expected = {
        "none": [(None, None)] * 8,
        "tasks": [(count, None) for count in (1, 4, 16, 64, 256, 256, 256, 256)],
        "length": [(None, length) for length in (2, 3, 5, 7, 9, 9, 9, 9)],
    }
    assert sizes == expected[curriculum]


def test_what_is_measured(tmp_path: Path) -> None:
    """Oracle: the counts that were asked for, and the meter as the sum over all trainings."""
    fields = {"steps": 6, "batch": 4, "looks": 3, "map_tasks": (2, 16), "map_widths": (8, 16), "map_steps": 3}
    made, start = task(base="digits", inputs=8), model()
    fitted, run = fit(tmp_path, made, start, elsewhere="clusters, breast-cancer", **fields)
    assert run.meter.snapshot()["samples"] == 4 * (6 + 4 * 3)
    expected = Gpicl(**{**SMALL, **fields}).cost(made, start)
    assert {unit: run.meter.snapshot()[unit] for unit in expected} == pytest.approx(expected)
    assert Gpicl(**{**SMALL, **fields}).trial(made, start)[1] > 6
    metrics = fitted.metrics
    assert [(cell["tasks"], cell["width"]) for cell in metrics["map"]] == [(2, 8), (2, 16), (16, 8), (16, 16)]
    assert metrics["accessible_state"] == 2 * 2 * 8 * 32
    for name in ("other labels of digits", "clusters", "breast-cancer: 1-NN", "new tasks, new images"):
        assert metrics[name]["count"] == 64
    assert [frame["name"] for frame in fitted.pictures[3]["frames"]] == ["0", "2", "4", "6"]
    assert len(json.dumps(fitted.pictures)) < 300_000
    assert [line["step"] for line in run.metrics()] == list(range(6))


def test_the_first_step(tmp_path: Path) -> None:
    """Oracle: one step by hand: Adam's first step is the rate times the sign of the clipped gradient."""
    made, start = task(tasks=4), model()
    fitted, run = fit(tmp_path, made, start, steps=1, batch=4, warmup=0, learning_rate=0.01, epsilon=1e-12)
    drawn = made.batch(4, run.rng("batch", 0))
    scores = start(drawn.inputs, drawn.labels)
    torch.nn.functional.cross_entropy(scores.flatten(0, 1), drawn.labels.flatten()).backward()
    for (name, old), new in zip(start.named_parameters(), fitted.model.parameters(), strict=True):
        moved = old.grad.abs() > 1e-6
        assert torch.allclose((old - 0.01 * old.grad.sign())[moved], new[moved], atol=1e-4), name


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"batch": 0},
        {"warmup": -1},
        {"learning_rate": 0.0},
        {"epsilon": 0.0},
        {"clip": float("nan")},
        {"map_tasks": (4,), "map_widths": ()},
        {"map_tasks": (0,), "map_widths": (8,)},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        Gpicl(**{**SMALL, **fields}).validate()
    Gpicl().validate()


def test_misfits_are_refused_before_work(tmp_path: Path) -> None:
    """Oracle: a context longer than the positions, a set that does not exist: nothing is written."""
    for start, fields, words in (
        (model(positions=8), {}, "longer than the 8 positions"),
        (model(), {"elsewhere": "cluster"}, "'clusters'"),
        (model(), {"map_tasks": (4,), "map_widths": (7,)}, "multiple of heads"),
    ):
        with pytest.raises(UsageError, match=words):
            fit(tmp_path / words[:3], task(), start, **fields)
        assert not list((tmp_path / words[:3]).glob("stages/*"))
    assert selfstudy.task("projected-images").context < selfstudy.model("sequence-transformer").positions
