"""The learner of the last finished part: what stays, what comes back, what damage is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfstudy.core.errors import MachineError
from selfstudy.core.run import Run
from selfstudy.data.made_tags import made_sentences
from selfstudy.learning.kept import Kept
from selfstudy.learning.tagging import train_tagger
from selfstudy.models.tagging.frequency import FrequencyTagger


def test_the_newest_two_stay(tmp_path: Path) -> None:
    """Oracle: what was written under a number comes back; older folders than the last two are gone; a file
    that was cut is named."""
    kept = Kept(tmp_path / "learner")
    texts = made_sentences("train", 300, 4)
    for number in (1, 2, 3):
        tagger = FrequencyTagger(suffix=number).made_for(texts)
        tagger.learn(texts, 0)
        kept.write(number, tagger)
    assert sorted(path.name for path in (tmp_path / "learner").iterdir()) == ["000002", "000003"]
    assert (kept.read(2).suffix, kept.read(3).suffix) == (2, 3)
    (tmp_path / "learner" / "000003" / "words.json").write_text("{}")
    with pytest.raises(MachineError, match=r"words\.json"):
        kept.read(3)


def test_training_is_counted(tmp_path: Path) -> None:
    """Oracle: the words that are seen; beyond the budget the tagger stays as it was."""
    from selfstudy.core.budget import Budget

    texts = made_sentences("train", 300, 4)
    for name, limit in (("enough", 1000.0), ("short", texts.words - 1.0)):
        with Run(tmp_path / name, {}, budget=Budget(samples=limit)) as run:
            tagger = run.stage("tagger", lambda run=run: train_tagger(run, FrequencyTagger(), texts))  # type: ignore[misc]
            assert tagger.trained == (name == "enough")
            assert run.meter.snapshot()["samples"] == (texts.words if name == "enough" else 0)
