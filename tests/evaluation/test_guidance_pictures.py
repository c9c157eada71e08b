"""Pictures of a training with hints."""

from __future__ import annotations

from selfstudy.evaluation.guidance_pictures import gains_picture, guidance_pictures
from selfstudy.evaluation.pass_at_k import gains

PLAIN = {"step": 0, "raw_accuracy": 0.25}
HINTED = {"step": 1, "raw_accuracy": 0.5, "guided_accuracy": 0.75, "guided_share": 0.5, "guided_kl": 1.5}


def test_the_course() -> None:
    """Oracle: the logged figures by step; a figure has a point only where it was logged."""
    course, away = guidance_pictures([{"loss": 1.0}, PLAIN, HINTED])
    shown = {trace["name"]: (trace["x"], trace["y"]) for trace in course["traces"]}
    assert list(shown.values()) == [([0, 1], [0.25, 0.5]), ([1], [0.75]), ([1], [0.5])]
    assert away["traces"][0]["y"] == [1.5]


def test_what_was_never_seen_is_left_out() -> None:
    """Oracle: no log no picture; without hints one picture with one curve."""
    assert guidance_pictures([]) == []
    (course,) = guidance_pictures([PLAIN])
    assert len(course["traces"]) == 1


def test_gains() -> None:
    """Oracle: pass@k by hand, points also for a single k, the counts in the note."""
    shown = gains_picture(gains([[0, 0], [1, 0]], [[0, 1], [1, 1]]))
    before, after = shown["traces"]
    assert before["x"] == ["1", "2"] and before["y"] == [0.25, 0.5] and after["y"] == [0.75, 1.0]
    assert "markers" in before["mode"]
    assert "1 that were solved" in shown["note"] and "1 that never were" in shown["note"]
