"""Every contract is broken by a method made for it, and says so; a contract that anything keeps is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from selfstudy.core.index import METHODS
from selfstudy.core.method import Method

from . import broken, checks
from .smallest import SMALLEST, Smallest, smallest


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("method", "contract", "words"),
    [
        (broken.LearnsNothing, checks.check_learns, "it gained"),
        (broken.UsesGlobalRandomness, checks.check_deterministic, "with one seed differ"),
        (broken.IgnoresTheSeed, checks.check_deterministic, "the seed changes nothing"),
        (broken.ForgetsOnResume, checks.check_resumes, "saved differs"),
        (broken.CountsNothing, checks.check_budget, "meter missed"),
        (broken.KeepsNoRecords, checks.check_budget, "records do not add up"),
        (broken.Overspends, checks.check_budget, "were spent of"),
        (broken.PeeksAtTheTest, checks.check_hidden_labels, "depend on the answers of the test"),
        (broken.AsksForLabels, checks.check_hidden_labels, "labels were asked for"),
        (broken.AcceptsAnything, checks.check_refuses, "instead of UsageError"),
        (broken.LearnsFromNothing, checks.check_refuses, "accepted"),
        (broken.LeavesHalfAFile, checks.check_refuses, "half-written"),
        (broken.SavesTooEarly, checks.check_refuses, "although the fit failed"),
        (broken.SavesAnother, checks.check_saves, "predicts otherwise"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_method_is_found(
    method: type[Method], contract: Callable[[type[Method], Smallest, Path], None], words: str, tmp_path: Path
) -> None:
    """Oracle: what is broken, by construction."""
    with pytest.raises(AssertionError, match=words):
        contract(method, SMALLEST["rest-em"], tmp_path)


def test_missing_help_is_found() -> None:
    """Oracle: a field without help, by construction; the wrong authors."""
    entry = METHODS["rest-em"]
    with pytest.raises(AssertionError, match="does not name 'Singh'"):
        checks.check_described(broken.WithoutHelp, entry)
    with pytest.raises(AssertionError, match=r"no help under WithoutHelp\.patience"):
        checks.require_help(broken.WithoutHelp())


def test_a_method_without_settings_is_told_what_to_add() -> None:
    """Oracle: the names of the table and of the method."""
    with pytest.raises(AssertionError, match=r"Add SMALLEST\['fresh'\] = Smallest\(fields"):
        smallest("fresh")
