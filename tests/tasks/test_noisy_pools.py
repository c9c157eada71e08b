"""Pools with wrong labels: how many, which, and who may know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN, image_splits
from selfstudy.data.sample_table import SampleTable
from selfstudy.data.text_sets import text_splits
from selfstudy.tasks.noisy_pools import NoisyPool


def task(fields: str = "", name: str = "digits") -> NoisyPool:
    return selfstudy.task(f"noisy:{name}" + (f"?{fields}" if fields else ""))


def test_shares_are_as_asked() -> None:
    """Oracle: counts by the truth: half of the labels are wrong, 70 % of these on items of no class."""
    made = task("train=400")
    wrong, outside = made._truth != made.given, made._truth == UNKNOWN
    assert len(made.pool) == 400 and wrong.sum() == 200 and outside.sum() == 140
    assert set(made.given.tolist()) == set(range(8)) and made.classes == tuple("01234567")
    assert (made.given >= 0).all() and len(made.labelled) == 400


def test_items_and_truth_belong_together() -> None:
    """Oracle: each image of a class is among the set's own images of it, each one of none among those left
    out."""
    made, whole = task("train=200"), image_splits("digits")["train"]
    by_label = {
        label: {image.tobytes() for image in whole.images[whole.labels == label]} for label in range(10)
    }
    for image, truth in zip(made.pool.images, made._truth, strict=True):  # type: ignore[union-attr]
        homes = (8, 9) if truth == UNKNOWN else (truth,)
        assert any(image.tobytes() in by_label[home] for home in homes)
    assert len({image.tobytes() for image in made.pool.images}) > 195  # type: ignore[union-attr]


def test_symmetric_and_asymmetric() -> None:
    """Oracle: symmetric flips reach every other class and never the own one, asymmetric ones the next
    class."""
    flipped = task("outside=0&rate=0.6")
    wrong = flipped._truth != flipped.given
    assert len(flipped.classes) == 10 and wrong.sum() == round(0.6 * len(flipped.given))
    assert len(set(((flipped.given - flipped._truth) % 10)[wrong].tolist())) == 9
    steady = task("kind=asymmetric&outside=0&rate=0.3")
    wrong = steady._truth != steady.given
    assert (((steady.given - steady._truth) % 10)[wrong] == 1).all() and wrong.any()


def test_held_out_items_are_right_and_of_the_known_classes() -> None:
    """Oracle: the set's own validation and test items of the first eight classes."""
    made, splits = task("test=100"), image_splits("digits")
    for split, most in (("validation", None), ("test", 100)):
        own = splits[split].only(slice(most))
        at = np.flatnonzero(own.labels < 8)
        held = made._held[split]
        assert np.array_equal(held.labels, own.labels[at]) and held.classes == made.classes
        assert np.array_equal(held.images, own.images[at])


def test_a_draw_is_a_task_of_its_own() -> None:
    """Oracle: the same name gives the same labels, another draw others; the name makes it again."""
    one, same, other = task("train=200"), task("train=200"), task("train=200&draw=1")
    assert np.array_equal(one.given, same.given) and not np.array_equal(one.given, other.given)
    assert np.array_equal(selfstudy.task(one.name).given, one.given) and "rate=0.5&outside=0.7" in one.name


def test_texts_and_clean_labels() -> None:
    """Oracle: texts of the set with its labels where nothing is wrong."""
    made, whole = task("rate=0&outside=0", "messages"), text_splits("messages")["train"]
    assert made.pool.texts == whole.texts and np.array_equal(made.given, whole.labels)  # type: ignore[union-attr]
    two = task("train=300", "messages")
    assert two.classes == whole.classes[:2] and len(two.pool) == 300


def test_only_the_oracle_tells_what_is_wrong(tmp_path: Path) -> None:
    """Oracle: the truth, "not sure" for items of no class; each answer is on the meter and none is beyond
    it."""
    made = task("train=100")
    with Run(tmp_path / "run", {}, budget=Budget(oracle_labels=100)) as run:
        told, _ = made.metered(run.meter).ask(run, "all", np.arange(100))
        assert np.array_equal(told, made._truth) and run.meter.snapshot()["oracle_labels"] == 100
        with pytest.raises(BudgetSpent):
            made.metered(run.meter).ask(run, "more", np.arange(1))
    assert not (made.pool.labels != UNKNOWN).any()


def test_fewer_items() -> None:
    """Oracle: the first ones, with their labels, names and truth."""
    made = task("train=100").limited(30)
    assert len(made.pool) == len(made.given) == len(made.ids) == len(made._truth) == 30
    assert np.array_equal(made.given, task("train=100").given[:30])
    assert len(task("train=100").limited(500).pool) == 100


def table(made: NoisyPool, suspect: np.ndarray, epochs: int = 2) -> SampleTable:
    count = len(made.given)
    return SampleTable(
        ids=made.ids,
        classes=made.classes,
        given=made.given,
        noisy=suspect > 0.5,
        weight=np.ones(count),
        guesses=np.full((count, len(made.classes)), 1 / len(made.classes)),
        loss=np.zeros(count),
        pseudo_loss=np.zeros(count),
        ood_score=suspect,
        suspect=suspect,
        history={"loss": np.stack([suspect] * epochs)},
        epochs={"loss": list(range(1, epochs + 1))},
    )


def test_detection_is_told_after_training() -> None:
    """Oracle: an area of 1 for scores that know the truth, 0.5 for one number; shares by hand."""
    made = task("train=200")
    encoder = made.prepared(selfstudy.model("conv?first=4&stages=2"))
    wrong = made._truth != made.given
    found = made.look(encoder, encoder, {"samples": table(made, wrong.astype(float))})
    assert found["metrics"]["labels wrong"] == 0.5 and found["metrics"]["items of no class"] == 0.35
    for kind in ("wrong", "of another class", "of no class"):
        assert found["metrics"][f"detection AUC, {kind}"] == 1
        assert found["metrics"][f"detection AUC of loss, {kind}"] == 1
    assert found["metrics"]["of those found, wrong"] == found["metrics"]["of those wrong, found"] == 1
    assert len(found["pictures"]) == 2
    blind = made.look(encoder, encoder, {"samples": table(made, np.full(200, 0.3), epochs=1)})
    assert blind["metrics"]["detection AUC, of no class"] == 0.5 and len(blind["pictures"]) == 1
    assert "of those found, wrong" not in blind["metrics"]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("noisy:digit", "digit"),
        ("noisy:digits?kind=worse", "kind"),
        ("noisy:digits?kind=worst", "cifar10"),
        ("noisy:cifar10?kind=worst&rate=0.1", "rate"),
        ("noisy:digits?rate=1.0", "rate"),
        ("noisy:digits?outside=1.5", "outside"),
        ("noisy:digits?train=100000", "train"),
        ("noisy:digits?train=1", "train"),
        ("noisy:digits?noise=0.1", "noise"),
    ],
)
def test_what_cannot_be_is_refused(spec: str, word: str) -> None:
    """Oracle: the field that is wrong, in one paragraph."""
    with pytest.raises(UsageError, match=word) as said:
        selfstudy.task(spec)
    assert "\n" not in str(said.value)


def test_human_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a file in the layout of CIFAR-10N beside images in that of the subset, made here."""
    rng = np.random.default_rng(0)
    labels = np.arange(1200) % 10
    for split, count in (("train", 1200), ("test", 20)):
        folder = tmp_path / "cifar10_subset"
        folder.mkdir(exist_ok=True)
        images = rng.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=labels[:count])
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    _forget_archives()
    try:
        with pytest.raises(DataError, match="cifar_n"):
            selfstudy.task("noisy:cifar10?kind=aggre")
        (tmp_path / "cifar_n").mkdir()
        said = (labels + (np.arange(1200) % 3 == 0)) % 10
        names = ("worse_label", "aggre_label", "random_label1")
        np.savez(
            tmp_path / "cifar_n/cifar10_subset_train_human.npz", **{n: said.astype(np.uint8) for n in names}
        )
        made = selfstudy.task("noisy:cifar10?kind=aggre&train=150")
        assert len(made.pool) == 150 and len(made.classes) == 10 and "rate" not in made.name
        wrong = made._truth != made.given
        assert 0.2 < wrong.mean() < 0.5 and ((made.given - made._truth)[wrong] % 10 == 1).all()
        whole = selfstudy.task("noisy:cifar10?kind=worst")
        assert np.array_equal(whole.given, said[:200]) and np.array_equal(whole._truth, labels[:200])
    finally:
        _forget_archives()


def _forget_archives() -> None:
    from selfstudy.data import image_sets

    image_sets._archive.cache_clear()
