from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import numpy as np
import psutil
import pytest

from selfstudy.core.errors import MachineError, MissingExtra, UsageError
from selfstudy.tasks import gym_environment
from selfstudy.tasks.forms import worked_examples
from selfstudy.tasks.loading import task


@pytest.fixture(scope="module")
def gym_folder():
    if not gym_environment.folder().is_dir():
        pytest.skip("reasoning-gym is not here; install it with: python -m selfstudy.tasks.gym_environment")


def test_gym_without_its_folder(tmp_path, monkeypatch):
    """Oracle: the message names the command."""
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"python -m selfstudy\.tasks\.gym_environment"):
        task("gym:chain_sum")
    with pytest.raises(MachineError, match="no pip"):
        gym_environment.create()


def test_a_failed_installation_leaves_nothing(tmp_path, monkeypatch):
    """Oracle: pip refuses the requirement; its reason is told and no folder stays."""
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path))
    monkeypatch.setattr(gym_environment, "REQUIREMENT", "not a requirement")
    with pytest.raises(MachineError, match="Invalid requirement"):
        gym_environment.create()
    assert list(tmp_path.iterdir()) == []


def test_gym_in_its_own_process(gym_folder):
    """Oracle: Python's sum of the terms in each question; the worker is replaced when it is killed."""
    sums = task("gym:chain_sum?size=60&min_terms=2&max_terms=3&max_digits=2")
    assert sums.fingerprint == task("gym:chain_sum?size=60&min_terms=2&max_terms=3&max_digits=2").fingerprint
    for problem in sums.train:
        value = sum(
            int(part)
            for part in problem.prompt.partition(":")[2]
            .replace("- ", "-")
            .replace("+", "")
            .rstrip("=")
            .split()
        )
        assert sums.verify(problem, [f"The answer is {value}."])
        assert not sums.verify(problem, [f"The answer is {value + 1}."])
    for child in psutil.Process().children():
        if any(part.endswith("gym_worker.py") for part in child.cmdline()):
            child.kill()
    assert sums.verify(problem, [f"The answer is {value}."])
    with pytest.raises(UsageError, match="Did you mean 'chain_sum'"):
        task("gym:chain_sums")
    with pytest.raises(UsageError, match="Did you mean 'min_terms'"):
        task("gym:chain_sum?min_term=2")
    with pytest.raises(UsageError, match="refuses"):
        task("gym:chain_sum?min_terms=5&max_terms=2")


def test_gym_chains_are_solved_in_lines(gym_folder):
    """Oracle: the replay of the reference lines, and their last result against the generator's answer."""
    chains = task("gym:chain_sum?size=40&form=chain&min_terms=3&max_terms=4")
    for problem in chains.train:
        lines = chains.oracle.solution(problem)
        assert problem.prompt.endswith("=") and " " not in problem.prompt
        assert chains.verify(problem, lines)
        assert not chains.verify(problem, [*lines[:-1], lines[-1] + "0"])


def test_gym_shows_solved_problems(gym_folder):
    """Oracle: the first training problems of the same task without examples, with their reference lines."""
    spec = "gym:chain_sum?size=40&form=chain&min_terms=3&max_terms=3"
    plain, shown = task(spec), task(f"{spec}&shots=2")
    solved = [(problem.prompt, plain.oracle.solution(problem)) for problem in plain.train[:2]]
    first = plain.train[2]
    assert shown.train == plain.train[2:] and shown.test == plain.test
    assert shown.prompt(first) == worked_examples(solved) + f"Question: {first.prompt}\nAnswer:\n"
    assert shown.prompt(first, chat=True) == first.prompt
    assert shown.verify(first, plain.oracle.solution(first))
    assert shown.name != plain.name and "\n\n" in shown.stop
    answers = task("gym:products?size=40&max_digits=1&shots=1")
    left, right = re.findall(r"\d+", answers.form.preamble.partition("Answer")[0])
    assert answers.form.preamble.endswith(f"The answer is {int(left) * int(right)}.\n\n")
    with pytest.raises(UsageError, match="shots=40 must be"):
        task(f"{spec}&shots=40")


def test_mathematics():
    """Oracle: Python's arithmetic; the same problems in another process; global generators untouched."""
    pytest.importorskip("mathematics_dataset", reason="the extra `mathematics` is not installed")
    random.seed(1), np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    spec = "mathematics:arithmetic__mul?train=20&validation=2&test=5&level=easy"
    products = task(spec)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert len(products.train) == 20 and len(products.test) == 5
    code = f"from selfstudy.tasks.loading import task; print(task({spec!r}).fingerprint)"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert other.stdout.strip() == products.fingerprint
    with pytest.raises(UsageError, match="Did you mean 'arithmetic__mul'"):
        task("mathematics:arithmetic_mul")


def test_mathematics_without_its_package(monkeypatch):
    """Oracle: the message names the extra."""
    monkeypatch.setitem(sys.modules, "mathematics_dataset", None)
    monkeypatch.setitem(sys.modules, "mathematics_dataset.modules", None)
    monkeypatch.setitem(sys.modules, "mathematics_dataset.modules.modules", None)
    with pytest.raises(MissingExtra, match=r"selfstudy\[mathematics\]"):
        task("mathematics:arithmetic__mul")
