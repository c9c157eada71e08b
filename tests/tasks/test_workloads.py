"""The workloads by name: what a variant changes, and that what is frozen is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.submissions import SUBMISSIONS
from selfstudy.learning.timed_trials import Limits, run_trial
from selfstudy.tasks.workloads import RECIPES, VARIANTS, frozen_targets, workload


def test_a_variant_changes_one_detail() -> None:
    """Oracle: the layers that are there; data, batch and step hint are those of the workload."""
    base, tanh, bare = (
        workload(name, target=0.1) for name in ("digits-mlp", "digits-mlp-tanh", "digits-mlp-no-norm")
    )
    kinds = [[type(part).__name__ for part in made.first_model(1)] for made in (base, tanh, bare)]  # type: ignore[attr-defined]
    assert [kind.replace("ReLU", "Tanh") for kind in kinds[0]] == kinds[1]
    assert [kind for kind in kinds[0] if kind != "BatchNorm1d"] == kinds[2]
    assert torch.equal(base.inputs, tanh.inputs)
    assert (base.batch, base.step_hint) == (tanh.batch, tanh.step_hint)
    assert {name for name in VARIANTS} == set(RECIPES)


def test_splits_do_not_overlap() -> None:
    """Oracle: the pixels themselves: no training image is a validation image."""
    from selfstudy.tasks.workload_data import image_examples

    splits = image_examples("digits", 800, 8)
    rows = {
        split: {tuple(row) for row in found.inputs.flatten(1).tolist()} for split, found in splits.items()
    }
    assert not rows["train"] & rows["validation"]
    assert not rows["train"] & rows["test"]


def test_the_metric_is_the_share_told_wrong(tmp_path: Path) -> None:
    """Oracle: the share counted here, on the images of the split."""
    from selfstudy.tasks.workload_data import image_examples

    made = workload("digits-mlp", target=0.9)
    with Run(tmp_path / "run", {}) as run:
        done = run_trial(run, made, SUBMISSIONS["adamw"], {}, Limits(30.0, 15.0, stop_at_target=False))
    splits = image_examples("digits", 800, 8)
    for split in ("validation", "test"):
        told = done.model(splits[split].inputs).argmax(1)
        wrong = float((told != splits[split].targets).float().mean())
        assert done.log["looks"][-1][split] == pytest.approx(wrong)


def test_frozen_targets() -> None:
    """Oracle: the median of the seeds that are kept beside each, and a seed apart from those of claims."""
    import statistics

    kept: dict[str, Any] = frozen_targets()
    assert "digits-mlp" in kept
    for name, found in kept.items():
        assert workload_name_is_known(name)
        assert found["validation"] == statistics.median(found["seeds"])
        assert found["seed"] >= 1000
        assert found["settings"].keys() == SUBMISSIONS[found["submission"]].space.keys()
    assert workload("digits-mlp").target == kept["digits-mlp"]["validation"]


def workload_name_is_known(name: str) -> bool:
    return name in RECIPES or any(name in variants for variants in VARIANTS.values())


def test_names_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: the error's kind and its hint."""
    with pytest.raises(UsageError, match="Did you mean 'digits-mlp'"):
        workload("digit-mlp")
    monkeypatch.setattr("selfstudy.tasks.workloads.frozen_targets", dict)
    with pytest.raises(DataError, match="bench targets digits-mlp-wide"):
        workload("digits-mlp-wide")
    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
    with pytest.raises(DataError, match="WikiText-2"):
        workload("wikitext-gpt", target=1.0)
