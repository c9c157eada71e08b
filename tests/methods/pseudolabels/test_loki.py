"""What is particular to Loki as a method: ready classifiers, heads, rows, temperatures, tables, proposals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.evaluation.label_distances import LOKI, MEDIAN
from selfstudy.learning.stages import StageTraining
from selfstudy.methods.pseudolabels.loki import Loki
from selfstudy.models.labels.classifier import LokiClassifier, class_probabilities
from selfstudy.models.labels.rule import LokiRule
from selfstudy.models.temperature_scaling import fitted_temperature
from selfstudy.tasks.label_metrics import GradedTask, rotated_digits

QUICK = StageTraining(steps=5, batch=16)


def task(**fields: Any) -> GradedTask:
    return rotated_digits(**{"every": 12, "train": 20, "test": 370, **fields})


def fit(folder: Path, made: GradedTask, model: Any = None, **fields: Any) -> tuple[Fit, dict[str, float]]:
    method = Loki(**fields)
    method.validate()
    start = made.prepared(selfstudy.model("flat") if model is None else model)
    with Run(folder, {}) as run:
        found = method.fit(made.metered(run.meter), start, run)
        spent = run.meter.snapshot()
        assert method.cost(made, start)["samples"] == spent["samples"]
        assert spent["oracle_labels"] == 0
    step, count = method.trial(made, start)
    step()
    assert count == -(-len(made.pool) // 256)
    return found, spent


def test_a_linear_head_under_the_rule(tmp_path: Path) -> None:
    """Oracle: the task's own probe, and the rule on its probabilities; one sample each given label."""
    made = task()
    found, spent = fit(tmp_path, made)
    probed = made.probed(made.prepared(selfstudy.model("flat")))
    p = probed.scores(made.validation_items)
    rule = LokiRule(made.space, [0, 12, 24, 36])
    assert isinstance(found.model, LokiClassifier)
    assert (found.model.classify(made.validation_items) == rule.predict(p)).all()
    assert spent["samples"] == 20 * 4
    row = found.metrics[f"validation, {LOKI}"]
    told = rule.predict(p).numpy()
    truth = made.validation_items.labels
    assert row["squared label distance"] == pytest.approx(((told - truth) ** 2).mean())
    assert found.metrics[f"accuracy, {LOKI}"] == pytest.approx((told == truth).mean())
    unseen = truth % 12 != 0
    assert found.metrics[f"accuracy on labels not observed, {LOKI}"] == pytest.approx(
        (told == truth)[unseen].mean()
    )
    assert found.metrics["labels_reachable"] == 37 and "within reach" in found.metrics["label_next"]


def test_a_ready_classifier_is_used_as_it_is(tmp_path: Path) -> None:
    """Oracle: its weights are the same object and the same numbers; nothing is trained; what it knows is
    observed, whatever labels the task gives. Given back by the name of its folder it is the same."""
    made, other = task(), task(every=18)
    classifier = made.probed(made.prepared(selfstudy.model("flat")))
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    found, spent = fit(tmp_path / "a", other, classifier, tuning=QUICK)
    assert spent["samples"] == 0 and found.model.classifier is classifier
    assert found.metrics["labels_observed"] == 4 and len(other.observed) == 3
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    from selfstudy.app.saving import save

    save(classifier, tmp_path / "model")
    read = selfstudy.model(str(tmp_path / "model"))
    assert torch.equal(read.scores(made.validation_items), classifier.scores(made.validation_items))
    again = selfstudy.fit("loki", task=other, model=read, out=tmp_path / "run")
    assert again.metrics[f"validation, {LOKI}"] == found.metrics[f"validation, {LOKI}"]


def test_temperatures(tmp_path: Path) -> None:
    """Oracle: fitted on validation items of observed labels alone, and used by the model where it is None."""
    made = task()
    found, _ = fit(tmp_path / "a", made, temperature=None)
    held = made.validation_items
    p = class_probabilities(found.model.classifier, held)
    at = np.flatnonzero(held.labels % 12 == 0)
    wanted = fitted_temperature(p[torch.from_numpy(at)], held.labels[at] // 12)
    assert found.model.rule.temperature == found.metrics["fitted_temperature"] == wanted
    assert fit(tmp_path / "b", made, temperature=0.5)[0].model.rule.temperature == 0.5
    made._held["validation"] = held.only(np.flatnonzero(held.labels % 12 != 0))
    assert "fitted_temperature" not in fit(tmp_path / "c", made)[0].metrics
    with pytest.raises(DataError, match="no validation items of observed labels"):
        fit(tmp_path / "d", made, temperature=None)


def test_a_loss_on_validation_items_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: a classifier that is right and says 0.4 of it, 0.3 of two others: Loki is drawn to the middle,
    at the fitted temperature it is not."""

    class Vague:
        classes = ("-90", "0", "90")

        def scores(self, items: Any) -> torch.Tensor:
            right = torch.from_numpy(np.searchsorted([0, 18, 36], items.labels).clip(0, 2))
            return 0.3 + 0.1 * torch.nn.functional.one_hot(right, 3)

        def save(self, folder: Path) -> None:
            pass

    made = task(every=18)
    known = np.flatnonzero(made.validation_items.labels % 18 == 0)
    made._held["validation"] = made.validation_items.only(known)
    fit(tmp_path / "a", made, Vague())
    assert "Loki costs" in caplog.text and "--temperature None" in caplog.text
    caplog.clear()
    fit(tmp_path / "b", task())
    assert not caplog.text


def test_without_validation_items(tmp_path: Path) -> None:
    """Oracle: no rows and no picture by class; the model and its table are there."""
    made = task()
    made._held["validation"] = made.validation_items.only(slice(0))
    found, _ = fit(tmp_path, made)
    assert not any(name.startswith(("validation", "accuracy")) for name in found.metrics)
    titles = [picture["title"] for picture in found.pictures]
    assert titles == ["Labels within reach", "Most doubtful items"]
    assert len(found.parts["labels"]) == len(made.pool)


def test_the_table_of_labels(tmp_path: Path) -> None:
    """Oracle: given labels stay, all others are the model's; none is asked for."""
    made = task()
    found, _ = fit(tmp_path, made)
    table = found.parts["labels"]
    at = made.labelled
    assert (table.labels[at] == made.given[at]).all() and (table.confidence[at] == 1).all()
    others = made.given == UNKNOWN
    assert {table.sources[place] for place in np.flatnonzero(others)} == {"predicted"}
    assert (table.labels[others] == found.model.classify(made.pool).numpy()[others]).all()
    assert ((table.confidence[others] >= 0.25) & (table.confidence[others] <= 1)).all()


def test_a_perceptron_and_tuning(tmp_path: Path) -> None:
    """Oracle: the meter's count of both; tuning moves the head, and only when asked."""
    made = task()
    plain, spent = fit(tmp_path / "a", made, probabilities="mlp", hidden=8, training=QUICK)
    assert spent["samples"] == 5 * 16
    tuned, both = fit(tmp_path / "b", made, probabilities="mlp", hidden=8, training=QUICK, tuning=QUICK)
    assert both["samples"] == 2 * 5 * 16
    pairs = zip(plain.model.classifier.parameters(), tuned.model.classifier.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    with Run(tmp_path / "b", {}) as run:  # the stages read back
        again = Loki(probabilities="mlp", hidden=8, training=QUICK, tuning=QUICK).fit(
            made.metered(run.meter), made.prepared(selfstudy.model("flat")), run
        )
    assert again.metrics == tuned.metrics


def test_medians(tmp_path: Path) -> None:
    """Oracle: the row of medians is that of the model's own predictions where the exponent is 1."""
    made = task()
    found, _ = fit(tmp_path, made, exponent=1)
    values = made.evaluate(found.model, split="validation").values
    assert found.metrics[f"validation, {MEDIAN}"]["squared label distance"] == pytest.approx(np.mean(values))


def test_labels_out_of_reach_are_proposed(tmp_path: Path) -> None:
    """Oracle: with the labels from -90 to 30 degrees observed, 90 is the farthest; then all is reached."""
    made = task()
    made.given = np.where(made.given == 36, UNKNOWN, made.given)
    found, _ = fit(tmp_path, made)
    assert found.metrics["labels_reachable"] == 25 and found.metrics["label_next"] == "90"
    nothing, _ = fit(tmp_path / "none", made, proposals=0)
    assert not any(trace["name"] == "label next" for trace in nothing.pictures[1]["traces"])


def test_names_in_the_place_of_labels(tmp_path: Path) -> None:
    """Oracle: no sample is seen; an encoder of images does not read names."""
    file = tmp_path / "reviews.csv"
    rows = [f"number {number} {word},{word}" for word in ("good", "bad", "fair") for number in range(20)]
    file.write_text("body,said\n" + "\n".join(rows) + "\n")
    edges = tmp_path / "edges.csv"
    edges.write_text("parent,child\nfair,good\nfair,bad\n")
    made = selfstudy.task(f"csv:{file}?text=body&label=said&metric=tree:{edges}")
    found, spent = fit(
        tmp_path / "run", made, selfstudy.model("words"), probabilities="names", prompt="number {}"
    )
    assert spent["samples"] == 0 and found.metrics["labels"] == 3
    with pytest.raises(UsageError, match="does not read"):
        fit(tmp_path / "other", task(), probabilities="names")


def test_wrong_fields() -> None:
    """Oracle: each field that is wrong is named."""
    wrong: dict[str, Any]
    for wrong in (
        {"temperature": 0.0},
        {"hidden": 0},
        {"prompt": "a photo"},
        {"prompt": "{0} {1}"},
        {"name_temperature": 0.0},
        {"tuning_temperature": -1.0},
        {"proposals": -1},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
            Loki(**wrong).validate()
