"""What is particular to mixed Barlow Twins: with weight 0 it is Barlow Twins, bit for bit, and no dearer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.config import from_dict
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.probe_curve import decay
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.learning import pretraining
from selfstudy.methods.representation.barlow_twins import BarlowTwins
from selfstudy.methods.representation.mixed_barlow_twins import MixedBarlowTwins
from selfstudy.models.encoders.convolution import ConvEncoder

TASK = "digits?labels=20&train=100&test=40"
SHORT = {"projector": [16, 16], "pretraining": {"epochs": 3, "batch": 32}}
PROBED = {**SHORT, "probing": {"every": 1, "items": 40}}


def start() -> ConvEncoder:
    return ConvEncoder(first=4, stages=2)


def fit(method: Any, folder: Path, *, seed: int = 0, **fields: Any) -> Any:
    """Return what the method gave, the losses by step, and what was spent."""
    chosen = from_dict(method, {**SHORT, **fields})
    chosen.validate()
    task = selfstudy.task(TASK)
    with Run(folder, {}, seed=seed) as run:
        fitted = chosen.fit(task.metered(run.meter), task.prepared(start()), run)
        lines = [line for line in run.metrics() if "loss" in line]
        return fitted, lines, run.meter.snapshot()


def gradients(monkeypatch: pytest.MonkeyPatch) -> list[list[torch.Tensor]]:
    """Collect the gradients of each step of a pre-training."""
    found: list[list[torch.Tensor]] = []
    make = pretraining.Pretraining.optimizer_of

    def watched(self: Any, modules: Any) -> torch.optim.Optimizer:
        optimizer = make(self, modules)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        optimizer.register_step_pre_hook(lambda *_: found.append([weight.grad.clone() for weight in weights]))
        return optimizer

    monkeypatch.setattr(pretraining.Pretraining, "optimizer_of", watched)
    return found


@pytest.mark.parametrize("row_normalise", [False, True])
def test_weight_0_is_barlow_twins(
    row_normalise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: barlow-twins with the same seed; losses, gradients, steps, weights and cost, bit for bit."""
    found = gradients(monkeypatch)
    plain, plain_lines, plain_spent = fit(BarlowTwins, tmp_path / "plain", row_normalise=row_normalise)
    expected = list(found)
    found.clear()
    mix = {"weight": 0.0, "row_normalise": row_normalise}
    mixed, lines, spent = fit(
        MixedBarlowTwins, tmp_path / "mixed", mix=mix, probing={"every": 1, "keep": "last"}
    )
    assert len(lines) == len(plain_lines) == len(found) == 9
    for line, plain_line in zip(lines, plain_lines, strict=True):
        assert all(line[name] == plain_line[name] for name in ("step", "loss", "invariance", "redundancy"))
        assert "loss_reg" not in line and line["loss_bt"] == line["loss"]
    for step, plain_step in zip(found, expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(step, plain_step, strict=True))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(mixed.model.state_dict()[name], value)
    assert {unit: spent[unit] for unit in ("samples", "flops")} == {
        unit: plain_spent[unit] for unit in ("samples", "flops")
    }


def test_weight_0_skips_the_third_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: passes in training mode counted; two a step at weight 0, else three, as `cost` has them."""
    passes: list[int] = []
    encode = ConvEncoder.encode

    def counted(self: ConvEncoder, inputs: torch.Tensor) -> torch.Tensor:
        passes.extend([1] * self.training)
        return encode(self, inputs)

    monkeypatch.setattr(ConvEncoder, "encode", counted)
    task, counts, flops = selfstudy.task(TASK), [], []
    for weight in (0.0, 4.0):
        _, _, spent = fit(MixedBarlowTwins, tmp_path / str(weight), mix={"weight": weight})
        counts.append(len(passes))
        flops.append(spent["flops"])
        method = from_dict(MixedBarlowTwins, {**SHORT, "mix": {"weight": weight}})
        assert method.cost(task, task.prepared(start())) == {
            "samples": spent["samples"],
            "flops": pytest.approx(spent["flops"]),
        }
        passes.clear()
    calibration = 1  # of the running statistics, when the encoder is made for the data
    assert [count - calibration for count in counts] == [18, 27]
    assert 1.4 < flops[1] / flops[0] < 1.7


def test_the_loss_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """Oracle: loss_bt + weight lambda loss_reg, by hand, with the weight of a ramp of 2 passes."""
    mix = {"weight": 2.0, "form": "imagenet", "ramp_epochs": 2}
    _, lines, _ = fit(MixedBarlowTwins, tmp_path, mix=mix, redundancy_weight=0.1, loss_scale=3.0)
    for line in lines:
        weight = min(1.0, line["step"] / 6)
        expected = line["loss_bt"] + 3.0 * weight * 0.1 * line["loss_reg"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_mixture_is_drawn_by_the_run(tmp_path: Path) -> None:
    """Oracle: the same seed gives the same losses of the regulariser; another seed or step gives others."""
    runs = {
        name: fit(MixedBarlowTwins, tmp_path / name, seed=seed)[1]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    }
    curves = {name: [line["loss_reg"] for line in lines] for name, lines in runs.items()}
    assert curves["a"] == curves["b"] != curves["c"]
    assert len(set(curves["a"])) == 9


def test_a_run_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Oracle: the uninterrupted run; curves of losses and probes, chosen and last weights, bit for bit."""
    method = from_dict(MixedBarlowTwins, PROBED)
    task = selfstudy.task(TASK)

    def cut(folder: Path, at: int | None) -> Any:
        with Run(folder, {}, checkpoint_steps=1) as run:
            if at is not None:
                log, count = run.log, 0

                def stopping(**values: Any) -> None:
                    nonlocal count
                    log(**values)
                    count += 1
                    if count == at:
                        raise KeyboardInterrupt

                run.log = stopping  # type: ignore[method-assign]
            fitted = method.fit(task.metered(run.meter), task.prepared(start()), run)
            timeless = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
            return fitted, timeless

    expected, lines = cut(tmp_path / "whole", None)
    for at in (4, 3, 2):  # lines of each process: before, at and after looks
        with pytest.raises(KeyboardInterrupt):
            cut(tmp_path / "cut", at)
    found, resumed_lines = cut(tmp_path / "cut", None)
    assert resumed_lines == lines
    assert found.metrics == expected.metrics and found.pictures == expected.pictures
    for one, other in ((found.model, expected.model), (found.parts["last"], expected.parts["last"])):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_report_has_the_curve(tmp_path: Path) -> None:
    """Oracle: a look before training, after each pass and none twice; decay recomputed from the curve."""
    fitted, _, _ = fit(MixedBarlowTwins, tmp_path, probing={"every": 1})
    curve = fitted.metrics["probe curve"]
    assert curve["epochs"] == [0.0, 1.0, 2.0, 3.0]
    assert fitted.metrics["decay"] == decay(curve["figures"][1:], ACCURACY)
    assert fitted.metrics["validation, last epoch"]["accuracy"] == curve["figures"][-1]
    probes, terms = fitted.pictures
    assert probes["traces"][-2]["y"] == pytest.approx(curve["figures"], rel=1e-4)
    assert [len(trace["y"]) for trace in terms["traces"]] == [9, 9]
    task = selfstudy.task(TASK)
    best = max(curve["figures"][1:])
    assert np.mean(task.evaluate(fitted.model, split="validation").values) == pytest.approx(best)


def test_it_does_not_look_at_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was asked of the task."""
    from selfstudy.tasks.images import ImageTask

    asked = []
    evaluate = ImageTask.evaluate

    def noted(self: ImageTask, model: Any, *, split: str = "test", limit: int | None = None) -> Any:
        asked.append(split)
        return evaluate(self, model, split=split, limit=limit)

    monkeypatch.setattr(ImageTask, "evaluate", noted)
    fit(MixedBarlowTwins, tmp_path)
    assert asked and set(asked) == {"validation"}


def test_images_without_labels(tmp_path: Path) -> None:
    """Oracle: the curve is of recognised views then."""
    from selfstudy.tasks.images import ImageTask

    labelled = selfstudy.task(TASK)
    bare = labelled.labelled
    bare = type(bare)(bare.name, bare.images, np.full(len(bare), -1), ())
    splits = {split: bare for split in ("train", "validation", "test")}
    task = ImageTask("bare", splits, bare)
    method = from_dict(MixedBarlowTwins, {**SHORT, "pretraining": {"epochs": 2, "batch": 10}})
    with Run(tmp_path, {}) as run:
        fitted = method.fit(task.metered(run.meter), task.prepared(start()), run)
    assert "another view recognised" in fitted.metrics["validation, last epoch"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"mix": {"weight": -1.0}}, "weight"),
        ({"mix": {"beta": [0.0, 1.0]}}, "beta"),
        ({"mix": {"target_b": "uu"}}, "target"),
        ({"redundancy_weight": 0.0}, "redundancy"),
        ({"projector": []}, "projector"),
        ({"probing": {"items": 0}}, "items"),
        ({"pretraining": {"batch": 1}}, "batch"),
        ({"views": {"flip": 2.0}}, "flip"),
    ],
)
def test_fields_that_cannot_be(fields: dict[str, Any], word: str, tmp_path: Path) -> None:
    """Oracle: refused by name, and nothing is written."""
    with pytest.raises(UsageError, match=word):
        selfstudy.fit("mixed-barlow-twins", task=TASK, out=tmp_path / "run", **{**SHORT, **fields})
    assert not (tmp_path / "run").exists()


def test_fewer_images_than_a_batch(tmp_path: Path) -> None:
    """Oracle: both numbers in the message."""
    with pytest.raises(DataError, match=r"100 unlabelled.*256"):
        fit(MixedBarlowTwins, tmp_path, pretraining={"epochs": 1})


def test_tiny_batches_are_warned_of() -> None:
    """Oracle: fewer than 4, where mixing is on."""
    with pytest.warns(UserWarning, match="mixed with themselves"):
        from_dict(MixedBarlowTwins, {"pretraining": {"batch": 3}}).validate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_dict(MixedBarlowTwins, {"pretraining": {"batch": 3}, "mix": {"weight": 0.0}}).validate()


def test_the_trial_is_a_step_on_a_copy() -> None:
    """Oracle: the model is left as it is; steps as the settings have them."""
    task = selfstudy.task(TASK)
    model = task.prepared(start())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step, count = from_dict(MixedBarlowTwins, SHORT).trial(task, model)
    step()
    assert count == 9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
