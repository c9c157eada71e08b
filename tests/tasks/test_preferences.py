"""Prompts with a judge: own files, references, what is counted, and win rates on the test split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.tasks.preferences import PreferenceTask, won
from selfstudy.tasks.reasoning import Item

JUDGE = """
import numpy as np

def longer(prompt, outputs):
    return [len(text) for text in outputs]

def first(prompt, outputs):
    return np.triu(np.ones((len(outputs),) * 2), 1) + 0.5 * np.eye(len(outputs))
"""


def longer(prompt: str, outputs: list[str]) -> list[int]:
    return [len(text) for text in outputs]


def first(prompt: str, outputs: list[str]) -> np.ndarray:
    return np.triu(np.ones((len(outputs),) * 2), 1) + 0.5 * np.eye(len(outputs))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of judges and a file of 60 prompts, every sixth without a reference."""
    (tmp_path / "judges_of_prompts.py").write_text(JUDGE)
    rows = [{"q": f"Prompt {i}", "ref": "" if i % 6 == 0 else f"Line.\n\n  {i}"} for i in range(60)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


SPEC = "jsonl:prompts.jsonl?prompt=q&answer=ref&judge=judges_of_prompts:longer"


def test_a_file_of_prompts(folder: Path) -> None:
    """Oracle: 60 prompts; those without a reference are trained on; lines and blanks of references stay."""
    task = selfstudy.task(SPEC)
    assert isinstance(task, PreferenceTask) and task.metric.name == "win rate against the reference"
    assert sum(len(getattr(task, split)) for split in ("train", "validation", "test")) == 60
    references = {p.prompt: task.oracle.solution(p) for p in task.train}
    assert sum(one is None for one in references.values()) == 10
    known = next(prompt for prompt, one in references.items() if one)
    assert task.written(references[known]) == f"Line.\n\n  {known.split()[1]}"
    again = selfstudy.task(task.name)
    assert again.fingerprint == task.fingerprint


def test_what_is_counted() -> None:
    """Oracle: m (m - 1) / 2 comparisons of the outputs of each prompt."""
    task = PreferenceTask(
        "p", {"train": [Item("a", ""), Item("b", "")], "test": [Item("c", "x", ("x",))]}, longer
    )
    meter = Meter()
    found = task.metered(meter).prefer(task.train, [["x", "yy", "z"], ["x", "y"]])
    assert found == [[1, 2, 1], [1, 1]] and meter.snapshot()["verifier_calls"] == 4


def test_the_test_split_is_won_against_references() -> None:
    """Oracle: by hand: longer than the reference wins, equal and shorter do not."""
    items = [Item(name, "four", ("four",)) for name in "abc"]
    task = PreferenceTask("p", {"train": [Item("t", "")], "test": items}, longer)
    score = task.evaluate(lambda problems, meter: [("fiver",), ("four",), ("one",)])
    assert score.correct == (True, False, False)


def test_another_judge_measures() -> None:
    """Oracle: the training judge wants length, the measuring one the opposite."""
    task = PreferenceTask(
        "p",
        {"train": [Item("t", "")], "test": [Item("a", "four", ("four",))]},
        longer,
        evaluation_judge=lambda prompt, outputs: [-len(text) for text in outputs],
    )
    assert task.evaluate(lambda problems, meter: [("one",)]).accuracy == 1.0


def test_both_orders_are_asked() -> None:
    """Oracle: a judge of places cannot tell; one of lengths can."""
    assert won(first, "p", "a", "b") == 0.5
    assert [won(longer, "p", a, "bb") for a in ("a", "bb", "ccc")] == [0, 0.5, 1]


def test_outputs_keep_their_lines() -> None:
    """Oracle: what is inside stays, outer blanks go."""
    task = PreferenceTask("p", {"train": [Item("t", "")], "test": []}, longer)
    assert task.steps("  a\n\n  b\n") == ("a", "", "  b") and task.steps(" \n ") == ()
    assert task.written(task.steps("a\n\n  b")) == "a\n\n  b"


def test_a_prompt_without_a_reference_is_not_graded() -> None:
    """Oracle: comparing with nothing is refused, with the method that needs no reference."""
    task = PreferenceTask("p", {"train": [Item("t", "")], "test": []}, longer)
    with pytest.raises(DataError, match="dno"):
        task.verify(task.train[0], ("text",))


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        ("prompt=q&answer=ref&judge=judges_of_prompts:shorter", UsageError, "no function 'shorter'"),
        ("prompt=question&judge=judges_of_prompts:longer", DataError, "no column 'question'"),
        ("prompt=q&answer=nothing&judge=judges_of_prompts:longer", DataError, "0 of them with a reference"),
        ("prompt=q&answer=ref&judge=judges_of_prompts:longer&tokens=0", UsageError, "tokens must be 1"),
    ],
)
def test_bad_files_and_fields(folder: Path, query: str, error: type[Exception], said: str) -> None:
    """Oracle: each kind of bad input is refused in words before any work."""
    with pytest.raises(error, match=said):
        selfstudy.task(f"jsonl:prompts.jsonl?{query}")


def test_a_test_file_needs_references(folder: Path) -> None:
    """Oracle: the test file's only prompt has none."""
    (folder / "held.jsonl").write_text(json.dumps({"q": "Held", "ref": ""}) + "\n")
    with pytest.raises(DataError, match="'Held' has no reference"):
        selfstudy.task(f"{SPEC}&test=held.jsonl")
