"""What is particular to transductive clustering: its parts in one fit, what it costs, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import DataError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.items import Vectors
from selfstudy.learning.transduction import Transduction, transduce
from selfstudy.methods.pseudolabels.transductive_clustering import TransductiveClustering
from selfstudy.tasks.pools import PoolTask, pool_task

FEW = "pool:digits?labels=20&train=120&test=60"


def fit(folder: Path, task: Any = FEW, seed: int = 0, **fields: Any) -> tuple[Fit, dict[str, float]]:
    made = selfstudy.task(task) if isinstance(task, str) else task
    method = TransductiveClustering(**fields)
    method.validate()
    with Run(folder, {}, seed=seed) as run:
        start = made.prepared(selfstudy.model("flat"))
        return method.fit(made.metered(run.meter), start, run), run.meter.snapshot()


def blobs(labels: int, *, train: int = 90, key: int = 0) -> PoolTask:
    """Three blobs of vectors."""
    rng = np.random.default_rng(key)
    centres = 2 * rng.normal(size=(3, 8))
    told = np.arange(train + 60) % 3
    values = (centres[told] + rng.normal(size=(len(told), 8))).astype(np.float32)
    whole = Vectors("blobs", values, told, ("a", "b", "c"))
    parts = {
        "train": whole.only(slice(train)),
        "validation": whole.only(slice(train, train + 30)),
        "test": whole.only(slice(train + 30, None)),
    }
    return pool_task("blobs", parts, labels=labels)  # type: ignore[arg-type]


def test_the_table_is_the_transduction_of_the_pool(tmp_path: Path) -> None:
    """Oracle: `transduce` on normalised pixels without the pool's mean; given labels stay as they are."""
    joint = Transduction(rounds=3, smoothness=0.5)
    found, _ = fit(tmp_path, joint=joint, halves=0)
    task = selfstudy.task(FEW)
    pixels = task.pool.pixels(slice(None)).flatten(1)
    items = functional.normalize(pixels - pixels.mean(0), dim=1)
    at = task.labelled
    rest = np.setdiff1d(np.arange(120), at)
    targets = functional.one_hot(torch.from_numpy(task.given[at]), 10).float()
    from selfstudy.learning.transduction import graph_of

    graph = graph_of(items[rest], None, joint)
    wanted = transduce(items[at], targets, items[rest], joint, graph=graph)
    table = found.parts["labels"]
    assert (table.labels[rest] == wanted.labels.numpy()).all() and (table.labels[at] == task.given[at]).all()
    np.testing.assert_allclose(table.confidence[rest], wanted.assignments.amax(1), atol=1e-5)
    assert (table.confidence[at] == 1).all()
    assert [table.sources[place] for place in at] == ["given"] * 20
    assert {table.sources[place] for place in rest} == {"predicted"}
    torch.testing.assert_close(found.model.head.prototypes, wanted.prototypes)
    assert found.metrics["rounds"] == 3 and found.metrics["energy_rises"] == 0


def test_the_classifier_tells_names_and_is_better_than_its_parts(tmp_path: Path) -> None:
    """Oracle: validation accuracies of the parts, each measured by the task; names of the classes."""
    found, _ = fit(tmp_path, "pool:digits?labels=20", halves=0)
    ways = {name.removeprefix("validation, "): v for name, v in found.metrics.items() if "validation" in name}
    assert set(ways) == {"nearest prototype", "prototypes fixed", "k-means", "full"}
    task = selfstudy.task("pool:digits?labels=20")
    assert ways["full"] == np.mean(task.evaluate(found.model, split="validation").values)
    assert ways["nearest prototype"] + 0.05 < min(ways["k-means"], ways["full"])
    images = task.pool.images[:5, 0]
    assert found.model.predict(images).shape == (5,) and set(found.model.predict(images)) <= set(task.classes)
    titles = [one["title"] for one in found.pictures]
    assert titles == ["Energy", "Ways of labelling", "Map of the pool", "Most doubtful items"]


def test_settings_are_chosen_on_halves_of_the_given_labels(tmp_path: Path) -> None:
    """Oracle: the stage's own table: the chosen pair has its best share; no label but the given ones is used,
    so that other labels of held-out items change nothing."""
    found, _ = fit(tmp_path / "a", blobs(12), halves=2, joint=Transduction(rounds=3))
    picture = next(one for one in found.pictures if one["title"] == "Choice of settings")
    z = np.array(picture["traces"][0]["z"])
    x, y = (picture["traces"][0][axis] for axis in ("x", "y"))
    chosen = z[y.index(f"{found.metrics['sharpness']:g}")][x.index(f"{found.metrics['smoothness']:g}")]
    assert z.shape == (4, 8) and chosen == z.max()
    again, _ = fit(tmp_path / "b", blobs(12), halves=2, joint=Transduction(rounds=3))
    assert again.metrics == found.metrics


def test_one_label_a_class_is_labelled_with_the_settings_given(tmp_path: Path) -> None:
    """Oracle: a warning that says so; the values of `joint`."""
    with pytest.warns(UserWarning, match="No class has two labels"):
        found, _ = fit(tmp_path, blobs(3), joint=Transduction(smoothness=0.7))
    assert found.metrics["smoothness"] == 0.7 and found.metrics["sharpness"] == 10.0
    assert np.mean(blobs(3).evaluate(found.model).values) > 0.8


def test_everything_labelled_leaves_class_means(tmp_path: Path) -> None:
    """Oracle: the means of the normalised vectors of each class; the table has given labels alone."""
    task = blobs(0)
    found, spent = fit(tmp_path, task, halves=0)
    values = torch.from_numpy(task.pool.values)
    items = functional.normalize(values - values.mean(0), dim=1)
    wanted = torch.stack([items[torch.from_numpy(task.given == k)].mean(0) for k in range(3)])
    torch.testing.assert_close(found.model.head.prototypes, wanted)
    assert set(found.parts["labels"].sources) == {"given"} and spent["samples"] == 0


def test_without_validation_items_there_is_no_comparison(tmp_path: Path) -> None:
    """Oracle: no picture, no metric, and half of the work less."""
    task = blobs(6)
    task._held = {**task._held, "validation": task._held["validation"].only(slice(0))}
    found, spent = fit(tmp_path, task, halves=0, joint=Transduction(rounds=2))
    assert not [name for name in found.metrics if "validation" in name]
    assert "Ways of labelling" not in [one["title"] for one in found.pictures]
    assert spent["samples"] == 2 * 84


def test_what_it_costs(tmp_path: Path) -> None:
    """Oracle: the meter, where no round ends early; a trial is one round."""
    made = selfstudy.task(FEW)
    start = made.prepared(selfstudy.model("flat"))
    for number, fields in enumerate(({"halves": 1}, {"halves": 0}, {"halves": 0, "prototypes": "fixed"})):
        joint = Transduction(rounds=2, prototypes=fields.pop("prototypes", "updated"))
        method = TransductiveClustering(joint=joint, **fields)
        _, spent = fit(tmp_path / str(number), joint=joint, **fields)
        assert method.cost(made, start) == {"samples": spent["samples"]}
        step, count = method.trial(made, start)
        step()
        assert count == (1 if joint.prototypes == "fixed" else 2)


def test_a_class_without_a_label_is_refused(tmp_path: Path) -> None:
    """Oracle: its name, before any work."""
    task = blobs(9)
    task.given = np.where(task.given == 1, -1, task.given)
    with pytest.raises(DataError, match="No label is given of 'b'"):
        fit(tmp_path, task)
    assert not (tmp_path / "stages").exists()


def test_the_saved_classifier_labels_new_items_together(tmp_path: Path) -> None:
    """Oracle: the classifier itself; items asked one by one may get other labels than in a batch."""
    selfstudy.fit("transductive-clustering", task=FEW, out=tmp_path / "run", halves=0)
    loaded = selfstudy.load(tmp_path / "run")
    images = selfstudy.task("pool:digits?labels=0").pool.images[:80, 0]
    batch = loaded.predict(images)
    alone = np.concatenate([loaded.predict(one[None]) for one in images])
    assert (batch != alone).any() and (batch == alone).mean() > 0.7
    table = (tmp_path / "run" / "labels" / "labels.csv").read_text().splitlines()
    assert table[0] == "item,label,confidence,source,text" and len(table) == 121
