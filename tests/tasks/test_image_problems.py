"""Problems with images, and problems without labels: from the user's files, and about digits."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.problem_images import image_of
from selfstudy.tasks.digit_sums import QUESTIONS, digit_sums, solution, stated
from selfstudy.tasks.loading import task as task_of


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty images."""
    for i in range(40):
        image_of(np.full((4, 4, 3), i, np.uint8)).opened().save(tmp_path / f"{i}.png")
    return tmp_path


def test_images_of_a_file(folder: Path) -> None:
    """Oracle: the rows as written; one question about many images is many problems, an image in one split."""
    rows = [
        {"question": f"What is {what}?", "picture": f"{i}.png", "answer": str(i)}
        for i in range(40)
        for what in ("it", "this")
    ]
    path = write(folder / "rows.jsonl", rows)
    task = task_of(f"jsonl:{path}?prompt=question&images=picture&verifier=exact")
    problems = [*task.train, *task.validation, *task.test]
    assert len(problems) == len({problem.id for problem in problems}) == 80
    splits = [{p.images for p in split} for split in (task.train, task.validation, task.test)]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 40
    by_name = {image_of(np.full((4, 4, 3), i, np.uint8)).opened().getpixel((0, 0)): i for i in range(40)}
    for problem in task.train[:6]:
        i = by_name[problem.images[0].opened().getpixel((0, 0))]
        assert task.verify(problem, (f"The answer is {i}.",))
        assert not task.verify(problem, (f"The answer is {i + 1}.",))


def test_rows_without_images(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: 1 of 100 is dropped and named, 2 of 100 are refused and named."""
    rows = [{"prompt": f"{k}?", "image": f"{k % 40}.png", "answer": "1"} for k in range(100)]
    rows[6]["image"] = "gone.png"
    path = write(folder / "rows.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        task = task_of(f"jsonl:{path}?images=image")
    assert task.dropped == {"without their image file": 1}
    assert "row 7 without their image file" in caplog.text
    rows[11]["image"] = "rows.jsonl"
    write(path, rows)
    with pytest.raises(DataError, match=r"2 of 100 rows .* row 7 without their image file, 12 with an image"):
        task_of(f"jsonl:{path}?images=image")
    with pytest.raises(DataError, match="no column 'images'"):
        task_of(f"jsonl:{path}?images=images")


def test_labels_are_left_unread(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: nothing that the task reaches holds the answers of the file to train on; the log says so."""
    rows = [{"prompt": f"{k}-1?", "answer": f"secret-{k}", "solution": "secret"} for k in range(30)]
    held = [{"prompt": f"0+{k}?", "answer": str(k), "solution": "x"} for k in range(40)]
    path, test = write(folder / "a.jsonl", rows), write(folder / "b.jsonl", held)
    with caplog.at_level(logging.WARNING):
        task = task_of(f"jsonl:{path}?labels=false&solution=solution&test={test}")
    assert "the answers of 30 rows are not read" in caplog.text
    assert len(task.train) == 30 and len(task.validation) + len(task.test) == 40 and task.validation
    assert not hasattr(task.train[0], "answer")
    reached: list[object] = [
        cell.cell_contents for door in (task._doors.grade, task._doors.solve) for cell in door.__closure__
    ]
    for cell in list(reached):
        inner = getattr(cell, "__closure__", None) or ()
        reached += [one.cell_contents for one in inner]
    assert "secret" not in repr(reached) and repr(held[0]["prompt"]) in repr(reached)
    for use in (lambda p: task.verify(p, ("The answer is 1.",)), task.oracle.solution):
        with pytest.raises(UsageError, match="without its answer"):
            use(task.train[0])
    assert task.verify(task.validation[0], (f"The answer is {task.validation[0].prompt[2:-1]}.",))


def test_files_without_answers(folder: Path) -> None:
    """Oracle: no column of answers is needed then; a file with answers to test on is."""
    path = write(folder / "a.jsonl", [{"prompt": f"{k}?"} for k in range(5)])
    test = write(folder / "b.jsonl", [{"prompt": f"0+{k}?", "answer": "1"} for k in range(20)])
    assert len(task_of(f"jsonl:{path}?labels=false&test={test}").train) == 5
    with pytest.raises(UsageError, match="test=FILE"):
        task_of(f"jsonl:{path}?labels=false")
    with pytest.raises(DataError, match="no column 'answer'"):
        task_of(f"jsonl:{path}?test={test}")


def test_digit_sums() -> None:
    """Oracle: the labels of scikit-learn's set, found by their pixels; results worked out anew."""
    from sklearn.datasets import load_digits

    found = load_digits()
    label = {
        image_of((pixels * 255 / 16).round().astype(np.uint8)).name: int(digit)
        for pixels, digit in zip(found.images, found.target, strict=True)
    }
    task = digit_sums(source="labelled", train=60, validation=20, test=60)
    for problem in (*task.train, *task.validation):
        digits = [label[image.name] for image in problem.images]
        assert len(digits) in QUESTIONS[problem.prompt]
        signs = {"a-b+c=": (1, -1, 1)}.get(problem.prompt, (1,) * 3)
        value = max(digits) if problem.prompt == "max=" else int(np.dot(signs[: len(digits)], digits))
        steps = task.oracle.solution(problem)
        assert steps == (solution(problem.prompt, digits),)
        assert stated(problem.prompt, steps) == str(value % 10) and task.verify(problem, steps)
        assert len(steps[0]) < task.room(problem)
    images = [{i for p in split for i in p.images} for split in (task.train, task.validation, task.test)]
    assert sum(map(len, images)) == len(set.union(*images))
    pool = digit_sums(train=60, labels=False)
    assert not {i for p in pool.train for i in p.images} & set.union(*images[:1])
    with pytest.raises(UsageError, match="without its answer"):
        pool.verify(pool.train[0], ("r1r2s3:3",))
    assert [p.id for p in pool.train] == [p.id for p in digit_sums(train=60).train]


@pytest.mark.parametrize("text", ["", "r1r2", "r1r2s3", "r1r2s3:", "r1r2s3:33", "s3:3", "r1r2s3:3r"])
def test_what_is_no_solution(text: str) -> None:
    """Oracle: one of each fault of form."""
    assert stated("a+b=", [text] if text else []) is None


def test_an_answer_at_once_is_a_solution() -> None:
    """Oracle: the answers of a problem with its reading left out, all ten of them: one is right."""
    task = digit_sums(source="labelled", train=1, validation=0, test=1)
    texts = [f":{digit}" for digit in range(10)]
    assert all(task.is_end(task.train[0], (text,)) for text in texts)
    assert sum(task.grades([task.train[0]] * 10, [(text,) for text in texts])) == 1


def test_fields_of_digit_sums() -> None:
    """Oracle: each field out of range."""
    for fields in ("source=both", "train=0", "test=0", "validation=-1"):
        with pytest.raises(UsageError):
            task_of(f"digit-sums?{fields}")
