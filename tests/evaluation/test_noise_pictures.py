"""Pictures of suspect labels."""

from __future__ import annotations

import numpy as np

from selfstudy.data.image_sets import image_splits
from selfstudy.data.sample_table import SampleTable
from selfstudy.evaluation.image_rows import GAP, image_row
from selfstudy.evaluation.noise_pictures import loss_histogram, progress, suspect_images, suspect_items

COUNT = 30


def table() -> SampleTable:
    rng = np.random.default_rng(0)
    numbers = {name: rng.random(COUNT) for name in ("weight", "loss", "pseudo_loss", "ood_score", "suspect")}
    return SampleTable(
        ids=tuple(f"item {place}" for place in range(COUNT)),
        classes=("<b>cat</b>", "dog"),
        given=np.arange(COUNT) % 2,
        noisy=numbers["suspect"] > 0.5,
        guesses=rng.dirichlet((1, 1), COUNT),
        **numbers,
    )


def test_losses_with_their_mixture() -> None:
    """Oracle: counts that add up, and curves with as much area; a single group has no curves."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.3, 0.05, 200), rng.normal(2.0, 0.1, 100)])
    found = loss_histogram(losses)
    bars, *curves = found["traces"]
    assert sum(bars["y"]) == 300 and [curve["name"] for curve in curves] == ["small losses", "large losses"]
    areas = [np.trapezoid(curve["y"], curve["x"]) * 50 for curve in curves]
    assert np.allclose(areas, [200, 100], rtol=0.05)
    assert len(loss_histogram(np.full(40, 0.5))["traces"]) == 1


def test_epoch_by_epoch() -> None:
    """Oracle: the lines of a log; steps have no epoch, and what was never logged has no curve."""
    lines = [
        {"step": 0, "loss": 1.0},
        {"epoch": 1, "flagged": 5},
        {"epoch": 2, "flagged": 10, "validation_accuracy": 0.4},
    ]
    traces = {trace["name"]: (trace["x"], trace["y"]) for trace in progress(lines, 20)[0]["traces"]}
    assert traces == {
        "labels taken to be wrong": ([1, 2], [0.25, 0.5]),
        "right on held-out items": ([2], [0.4]),
    }
    assert progress(lines[:1], 20) == []


def test_suspects_first() -> None:
    """Oracle: the order of suspicion; names are no markup."""
    made = table()
    order = np.argsort(-made.suspect)
    shown = [f"text {place}" for place in range(COUNT)]
    cells = suspect_items(made, shown, count=5)["traces"][0]["cells"]["values"]
    assert cells[0] == [f"item {place}" for place in order[:5]] and cells[4] == [
        f"text {place}" for place in order[:5]
    ]
    assert "&lt;b>cat&lt;/b>" in cells[1] and "<b>cat</b>" not in cells[1]


def test_suspect_images() -> None:
    """Oracle: two rows of twelve images in the order of suspicion, pixel by pixel."""
    made, images = table(), image_splits("digits")["train"].only(slice(COUNT))
    found = suspect_images(made, images)
    pixels = np.array(found["traces"][0]["z"])
    order = np.argsort(-made.suspect, kind="stable")
    assert pixels.shape == (8 + GAP + 8, 12 * (8 + GAP), 3)
    assert np.array_equal(pixels[:8, :8, 0], images.images[order[0], 0])
    assert np.array_equal(pixels[8 + GAP :, 10 : 10 + 8, 0], images.images[order[13], 0])
    assert np.array_equal(image_row(images.images[order[:2]])[:, :8, 1], images.images[order[0], 0])
    assert "<b>" not in found["note"]
