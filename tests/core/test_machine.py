"""The cores really given, from made-up control groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from threadpoolctl import threadpool_info, threadpool_limits

from selfstudy.core import machine
from selfstudy.evaluation.probes import linear_probe
from selfstudy.learning.pair_tuning import set_logistic
from selfstudy.signals.label_noise import linear_separation


@pytest.fixture
def given_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.usefixtures("given_16")
@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({}, "0::/\n", 16),
        ({"a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 16),
        ({"a/b/cpu.max": "250000 100000\n"}, "0::/a/b\n", 3),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 2),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
        (
            {"cpu/a/cpu.cfs_quota_us": "400000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            "3:cpu,cpuacct:/a\n",
            4,
        ),
        ({"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, "3:cpu,cpuacct:/a\n", 16),
    ],
)
def test_cores(tmp_path: Path, files: dict[str, str], membership: str, expected: int) -> None:
    """Oracle: the kernel's rule, quota over period, rounded up, the tightest group winning."""
    groups = tree(tmp_path / "cgroup", files)
    groups.mkdir(exist_ok=True)
    (tmp_path / "membership").write_text(membership)
    assert machine.cores(groups, tmp_path / "membership") == expected


def test_affinity_caps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: an affinity of three cores."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert machine.cores(tmp_path, tmp_path / "none") == 3


FEATURES = np.random.default_rng(0).normal(size=(60, 4))
LABELS = np.arange(60) % 2
SEARCHES: dict[str, Callable[[], Any]] = {
    "linear probe": lambda: linear_probe(torch.from_numpy(FEATURES).float(), torch.from_numpy(LABELS), 2),
    "logistic head": lambda: set_logistic(torch.nn.Linear(4, 2), FEATURES, LABELS),
    "noisy labels": lambda: linear_separation(FEATURES, LABELS == 1),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_for_weights_take_one_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of scipy's that wait beside torch's make them tens of times slower. Oracle: threadpoolctl."""

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(threads())
        return minimize(*args, **options)

    seen, minimize = list[set[int]](), optimize.minimize
    monkeypatch.setattr(optimize, "minimize", watched)
    with threadpool_limits(2, user_api="blas"):
        SEARCHES[name]()
        assert threads() == {2}
    assert seen
    assert all(each == {1} for each in seen)
