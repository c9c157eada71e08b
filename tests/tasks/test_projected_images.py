"""projected-images: which tasks and images an evaluation shows, what cannot be known, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.labelled_images import from_arrays, labelled_set
from selfstudy.data.projected_tasks import FIRST_TEST_ID, FIRST_VALIDATION_ID
from selfstudy.models.in_context.sequences import SequenceModel, SequenceTransformer
from selfstudy.tasks.projected_figures import NEW, SWITCHES, examples, figures
from selfstudy.tasks.projected_images import ProjectedImages, projected_images


def task(**fields: Any) -> ProjectedImages:
    return projected_images(**{"tasks": 50, "context": 12, **fields})


def model(**fields: Any) -> SequenceTransformer:
    return SequenceTransformer(**{"layers": 1, "width": 16, "positions": 13, **fields})


def images_of(made: ProjectedImages, drawn: Any, split: str, sequence: int) -> list[int]:
    """Find the examples of a sequence again, by projecting all of a split."""
    projection = made.augmenter.projections(drawn.ids[sequence : sequence + 1])[0]
    candidates = torch.from_numpy(made.base.splits[split].inputs) @ projection.T
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(drawn.inputs[sequence], candidates, compute_mode=exact)
    return [int(row.argmin()) if row.min() < 1e-3 else -1 for row in distances]


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize(("name", "switches"), SWITCHES.items())
def test_the_two_switches(name: str, switches: tuple[bool, bool], split: str) -> None:
    """Oracle: ids by their range; every example found again in the split it must come from, none twice."""
    made = task()
    drawn = made.sequences(20, split, seen_tasks=switches[0], seen_images=switches[1])
    first = FIRST_TEST_ID if split == "test" else FIRST_VALIDATION_ID
    low, high = (0, 50) if switches[0] else (first, 2 * first)
    assert ((drawn.ids >= low) & (drawn.ids < high)).all()
    for sequence in (0, 19):
        found = images_of(made, drawn, "train" if switches[1] else split, sequence)
        assert -1 not in found and len(set(found)) == 13
        expected = made.base.splits["train" if switches[1] else split].labels[found]
        bias = None if switches[0] else 0.0
        order = made.augmenter.permutations(drawn.ids[sequence : sequence + 1], bias=bias)[0]
        assert torch.equal(drawn.labels[sequence], order[torch.from_numpy(expected)])


def test_training_draws() -> None:
    """Oracle: ids below T or the number asked for, images of the training split, the length asked for."""
    made = task()
    drawn = made.batch(200, np.random.default_rng(0))
    assert drawn.ids.max() < 50 and drawn.inputs.shape == (200, 13, 64)
    assert -1 not in images_of(made, drawn, "train", 7)
    short = made.batch(200, np.random.default_rng(0), tasks=2, length=4)
    assert set(short.ids) == {0, 1} and short.labels.shape == (200, 4)


def test_streams() -> None:
    """Oracle: the first sequences of more are the same; splits and seeds differ; a call changes nothing."""
    made = task()
    few, many = made.sequences(5, "test"), made.sequences(9, "test")
    assert torch.equal(few.inputs, many.inputs[:5]) and torch.equal(few.labels, many.labels[:5])
    for other in (made.sequences(5, "validation"), task(seed=1).sequences(5, "test")):
        assert not np.array_equal(other.ids, few.ids)


def test_the_first_label_of_a_new_task_is_anyone_s_guess() -> None:
    """Oracle: the label shown is independent of the image's class (chi-square, 1 in 1,000): no position 1 can
    be better than chance on new tasks. With bias 1 on seen tasks both are the same."""
    made = task(classes=3)
    drawn = made.sequences(1500, "test")
    orders = made.augmenter.permutations(drawn.ids, bias=0.0)
    classes = (orders == drawn.labels[:, :1]).double().argmax(1)
    table = np.zeros((3, 3))
    np.add.at(table, (classes.numpy(), drawn.labels[:, 0].numpy()), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3
    kept = task(classes=3, bias=1.0).sequences(50, "test", seen_tasks=True)
    assert torch.equal(
        task(classes=3, bias=1.0).augmenter.permutations(kept.ids), torch.arange(3).expand(50, -1)
    )


class Told(SequenceModel):
    """Tells the label that is last in its context, and class 0 at first."""

    kind = "told"
    inputs, classes, positions = 64, 5, 13

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        before = torch.nn.functional.pad(labels[:, :-1], (1, 0))
        return torch.nn.functional.one_hot(before, 5).float()

    _read = accessible_state = None  # type: ignore[assignment]


def test_measures() -> None:
    """Oracle: accuracy by hand of a learner that repeats the label before."""
    made, told = task(), Told()
    drawn = made.sequences(40, "test")
    by_hand = (drawn.labels[:, -1] == drawn.labels[:, -2]).float().tolist()
    assert made.measure(told, "test", 40) == by_hand
    assert list(made.evaluate(told, limit=7).values) == by_hand[:7]
    curve = made.accuracy_curve(told, "test", count=40)
    assert len(curve) == 13 and curve[-1] == pytest.approx(np.mean(by_hand))
    assert made.phase(told) == "fail"


def test_figures() -> None:
    """Oracle: rows for each kind of sequences and learner; nearest neighbours far above chance on digits."""
    made = task()
    rows = figures(made, {"clusters": made.on(labelled_set("clusters").only("01234"))}, model(), count=40)
    names = [(row["on"], row["by"]) for row in rows]
    assert names[:5] == [*((name, "") for name in SWITCHES), ("clusters", "")]
    assert {by for on, by in names[5:]} == {"1-NN", "nearest class mean", "logistic regression"}
    found = {name: row for name, row in zip(names, rows, strict=True)}
    assert found[NEW, "1-NN"]["curve"][-1] > 0.6 and len(found[NEW, "1-NN"]["curve"]) == 12
    assert np.mean(found[NEW, "logistic regression"]["last"]) > 0.6
    assert len(found[NEW, ""]["curve"]) == 13


def test_examples() -> None:
    """Oracle: the first digit of each class, and A times it; vectors have no pictures."""
    made = task()
    shown = examples(made, tasks=2)
    assert [part.task for part in shown] == ["as they are", "task 0", "task 1"]
    assert shown[0].labels == [0, 1, 2, 3, 4]
    by_hand = made.augmenter.projections(np.array([1]))[0] @ torch.from_numpy(shown[0].images[3].ravel())
    assert np.allclose(shown[2].images[3].ravel(), by_hand, atol=1e-5)
    assert shown[2].labels == made.augmenter.permutations(np.array([1]))[0].tolist()
    assert examples(task(inputs=32)) == [] and examples(task(base="clusters")) == []


def test_other_data() -> None:
    """Oracle: sizes of projections; the other labels of the set share no label with those trained on."""
    made = task(labels="1,3,5,7,9")
    assert made.rest is not None and made.rest.labels == ("0", "2", "4", "6", "8")
    other = made.on(from_arrays(np.random.default_rng(0).normal(size=(200, 7)), np.arange(200) % 4))
    assert other.sequences(3, "test").inputs.shape == (3, 13, 64)
    assert task(classes=6).rest is None
    with pytest.raises(UsageError, match="10 labels, more than the 5 classes"):
        made.on(labelled_set("digits"))


def test_names() -> None:
    """Oracle: the task of a name is the same task; defaults are left out."""
    assert task(tasks=65536, context=30).name == "projected-images"
    made = task(labels="4,2", classes=2, bias=0.0)
    again = selfstudy.task(made.name)
    assert again.name == made.name
    assert torch.equal(again.sequences(3, "test").inputs, made.sequences(3, "test").inputs)
    more = made.with_tasks(3)
    assert more.augmenter.tasks == 3 and made.augmenter.tasks == 50
    assert (more.batch(50, np.random.default_rng(0)).ids < 3).all()


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"context": 0}, UsageError, "at least 1"),
        ({"tasks": 0}, UsageError, "from 1 to"),
        ({"classes": 1}, UsageError, "at least 2"),
        ({"labels": "1,2,3,4,5,6"}, UsageError, "6 labels, more than the 5 classes"),
        ({"labels": "1"}, UsageError, "two labels"),
        ({"labels": "1,11"}, UsageError, "no label '11'"),
        ({"by": "row"}, UsageError, "'all' or 'column'"),
        ({"base": "digit"}, UsageError, "'digits'"),
        ({"base": "iris", "classes": 3, "context": 30}, DataError, "too few for sequences of 31"),
    ],
)
def test_tasks_that_cannot_be(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    """Oracle: each is refused with what was given or is allowed."""
    with pytest.raises(error, match=words):
        task(**fields)


def test_models_that_do_not_fit() -> None:
    """Oracle: each is refused before it reads anything."""
    for wrong, words in (
        (model(positions=12), "longer than the 12 positions.*positions=13"),
        (model(inputs=32), "takes 32 inputs and 5 classes, the task 64 and 5"),
        (model(classes=4), "4 classes"),
        (torch.nn.Linear(1, 1), "needs a sequence model, not 'Linear'"),
    ):
        with pytest.raises(UsageError, match=words):
            task().measure(wrong, "test", 2)
