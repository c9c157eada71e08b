"""What a training's trace keeps, and that it comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from selfstudy.data.cooccurrence import draw, synthetic
from selfstudy.evaluation.attention import attention_composition, class_logits, entropy
from selfstudy.evaluation.attention_pictures import attention_pictures
from selfstudy.evaluation.attention_trace import AttentionTrace, Dynamics
from selfstudy.models.attention_decoder import AttentionDecoder

TABLE = synthetic(last=3, next=2, common=4, own=4)
PROBE = draw(TABLE, 8, 20, np.random.default_rng(0)).tokens


def dynamics(steps: int = 3) -> Dynamics:
    """A trace of models that have nothing to do with each other."""
    trace = AttentionTrace()
    for step in range(steps):
        model = AttentionDecoder(vocabulary=TABLE.vocabulary, spread=0.5 * step, seed=step)
        trace.done = 10 * step
        trace.record(model, TABLE, PROBE, 1)
    return Dynamics(model, trace)


def test_figures_of_a_trace() -> None:
    """Oracle: at Z = 0 what P itself is; at the end the figures of the last model, computed here."""
    found = dynamics()
    figures = found.figures(TABLE, 20, 1)
    p = TABLE.probabilities
    composition = attention_composition(class_logits(found.model, TABLE), p)
    assert figures["common mass at the start"] == pytest.approx(float((p * TABLE.common).sum(1).mean()))
    assert figures["entropy at the start"] == pytest.approx(float(entropy(p).mean()))
    assert figures["entropy"] == pytest.approx(float(entropy(composition).mean()))
    assert figures["largest share of one token"] == pytest.approx(float(composition.max()))
    assert figures["attention entropy if uniform"] == pytest.approx(np.log(19))
    assert found.trace.rows[0]["attention_entropy"] == pytest.approx(np.log(19), rel=1e-6)
    assert found.trace.series("step") == [0, 10, 20]
    # Four next tokens, but the first class of each of the three last ones is watched.
    np.testing.assert_array_equal(found.trace.compositions[-1], composition[[0, 2, 4]])


def test_what_cannot_be_told_is_none() -> None:
    """Oracle: with a single distinct token a class there is no order; JSON has no nan."""
    table = synthetic(last=1, next=2, own=1)
    trace = AttentionTrace()
    model = AttentionDecoder(vocabulary=table.vocabulary)
    trace.record(model, table, torch.zeros(1, 5, dtype=torch.long), 1)
    assert Dynamics(model, trace).figures(table, 5, 1)["order correlation"] is None


def test_it_comes_back(tmp_path: Path) -> None:
    """Oracle: equality of everything, through files and through a checkpoint's state."""
    found = dynamics()
    found.save(tmp_path / "kept")
    again = Dynamics.load(tmp_path / "kept")
    assert again.trace.rows == found.trace.rows and again.trace.done == found.trace.done
    np.testing.assert_array_equal(again.trace.compositions, found.trace.compositions)
    assert all(map(torch.equal, again.model.state_dict().values(), found.model.state_dict().values()))
    resumed = AttentionTrace()
    resumed.load_state_dict(found.trace.state_dict())
    resumed.record(found.model, TABLE, PROBE, 1)
    assert len(resumed.rows) == 4 and len(found.trace.rows) == 3


def test_pictures_show_the_trace() -> None:
    """Oracle: the recorded figures, found again in the traces of each picture."""
    found = dynamics()
    others = [(z, y, dynamics(2).trace) for z in (0.5, 1.0) for y in (0.5, 5.0)]
    made = attention_pictures(found, TABLE, found.figures(TABLE, 20, 1), [(1.0, 1.0, found.trace), *others])
    titles = [one["title"] for one in made]
    assert titles[0] == "Attention over training" and "Final entropy by rates" in titles[-1]
    np.testing.assert_allclose(made[0]["traces"][0]["y"], found.trace.series("common_mass"), rtol=1e-4)
    moving = made[1]
    assert [frame["name"] for frame in moving["frames"]] == ["0", "10", "20"]
    shown = dict(zip(moving["traces"][0]["x"], moving["frames"][-1]["data"][0]["y"], strict=True))
    token = int(np.flatnonzero(TABLE.distinct[0])[0])
    assert shown[TABLE.word(token)] == pytest.approx(found.trace.compositions[-1][0][token], rel=1e-4)
    grid = made[-1]["traces"][0]
    assert grid["x"] == ["0.5", "1", "5", "10"] and grid["y"] == ["0.5", "1"]
    assert grid["z"][0][1] == pytest.approx(others[0][2].rows[-1]["entropy"], rel=1e-4)
    assert np.isnan(grid["z"][0][0])


def test_pictures_of_a_training_without_a_sweep() -> None:
    """Oracle: there is nothing to map, and one line of entropy."""
    found = dynamics(1)
    made = attention_pictures(found, TABLE, found.figures(TABLE, 20, 1), [(1.0, 1.0, found.trace)])
    assert len(made[-1]["traces"]) == 1 and made[-1]["title"].startswith("Entropy")
