"""Questions of the model's own: what is kept, what is asked, and that they are written once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.models.language.sampling import Completion
from selfstudy.search import questions
from selfstudy.search.questions import Questions, asking, usable, write_questions
from selfstudy.tasks.digit_sums import digit_sums


def test_what_is_kept() -> None:
    """Oracle: by hand: too short, too long, no question of the task, the original one, a repetition."""
    task = digit_sums(train=3, labels=False)
    first, second, _ = task.train
    other = next(q for q in ("a+b=", "a-b+c=", "max=") if q not in {p.prompt for p in (first, second)})
    shown = [first] * 5 + [second] * 2
    texts = [first.prompt, "a*b=", other, other, "", other, second.prompt]
    kept = usable(task, shown, texts, Questions(each=1))
    assert [(p.prompt, p.images) for p in kept] == [(other, first.images), (other, second.images)]
    assert len({p.id for p in (*task.train, *kept)}) == 5
    assert usable(task, shown, texts, Questions(each=1, longest=3, shortest=1)) == []
    assert usable(task, shown, texts, Questions(each=1, shortest=7)) == []


def test_what_is_asked() -> None:
    """Oracle: the template with the question in its place; places of images by their number."""
    asked: list[tuple[str, int]] = []
    model: Any = SimpleNamespace(prompt=lambda text, images=0: asked.append((text, images)) or text)
    problem = digit_sums(train=1, labels=False).train[0]
    asking(model, problem, "Like {question}?")
    asking(model, selfstudy.task("chain100?steps=1&train=1&validation=0&test=1").train[0], "New:")
    assert asked == [(f"Like {problem.prompt}?", len(problem.images)), ("New:", 0)]


def test_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a sampler that writes given texts, asked once; a resumed run has the same problems."""
    task, model = (
        digit_sums(train=2, labels=False),
        SimpleNamespace(name="m", prompt=lambda text, images=0: text),
    )
    calls: list[list[Any]] = []

    def sampler(*_: Any) -> Any:
        def sample(requests: list[Any]) -> list[Completion]:
            calls.append(requests)
            said = ["max=", "a+b=", "a-b+c=", "nonsense"]
            return [Completion(f" {text}", (), (), "stop") for text in said]

        return SimpleNamespace(sample=sample)

    monkeypatch.setattr(questions, "open_sampler", sampler)
    settings = Questions(each=2)
    with Run(tmp_path / "run") as run:
        made = write_questions(task, model, settings, run)  # type: ignore[arg-type]
    with Run(tmp_path / "run") as run:
        again = write_questions(task, model, settings, run)  # type: ignore[arg-type]
    assert made == again and made and len(calls) == 1
    requests = calls[0]
    assert len({request.key for request in requests}) == 4
    assert [request.images for request in requests] == [p.images for p in task.train for _ in range(2)]


def test_nothing_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: texts that are no questions: refused with three of them."""
    task, model = (
        digit_sums(train=4, labels=False),
        SimpleNamespace(name="m", prompt=lambda text, images=0: text),
    )
    drawn = [Completion(f"no {i}", (), (), "stop") for i in range(4)]
    monkeypatch.setattr(questions, "open_sampler", lambda *_: SimpleNamespace(sample=lambda requests: drawn))
    with (
        Run(tmp_path / "run") as run,
        pytest.raises(DataError, match=r"None of the 4 .*'no 0', 'no 1', 'no 2'"),
    ):
        write_questions(task, model, Questions(each=1), run)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [{"each": -1}, {"tokens": 0}, {"shortest": 0}, {"shortest": 9, "longest": 8}, {"temperature": 0.0}],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        Questions(**fields).validate()
    Questions().validate()
