"""The wheel: what is in it, and that it works in an environment of its own, far from the source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

from selfstudy.data.chains import draw

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selfstudy"


def call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def worked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the tree stays as it is."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(SOURCE, folder / "src" / "selfstudy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder / "out")
    worked(call(sys.executable, "-m", "pip", "wheel", *options, folder, cwd=folder))
    (built,) = (folder / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel in it; what it needs it sees in ours."""
    folder = tmp_path_factory.mktemp("installed")
    worked(call(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder))
    programs = folder / "env" / "bin"
    options = ("--no-deps", "--no-index", "--quiet")
    worked(
        call(
            sys.executable,
            "-m",
            "pip",
            "--python",
            programs / "python",
            "install",
            *options,
            wheel,
            cwd=folder,
        )
    )
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A plain path: our own .pth files, that of an editable install among them, are not followed.
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


@pytest.fixture
def elsewhere(tmp_path: Path, installed: Path) -> Path:
    """A directory of a user."""
    done = call(installed / "python", "-c", "import selfstudy; print(selfstudy.__file__)", cwd=tmp_path)
    assert worked(done).startswith(str(installed.parent)), "the wheel is what runs"
    return tmp_path


def test_the_package_data_is_in_it(wheel: Path) -> None:
    """Oracle: the files of the source tree."""
    there = {
        str(path.relative_to(SOURCE.parent))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == there
    for needed in ("models/language/weights/tiny-lm/model.safetensors", "app/report.html", "py.typed"):
        assert f"selfstudy/{needed}" in packed


def test_the_command_answers(elsewhere: Path, installed: Path) -> None:
    """Oracle: the names of the commands and of the methods."""
    said = worked(call(installed / "selfstudy", "--help", cwd=elsewhere))
    assert all(name in said for name in ("demo", "fit", "resume", "compare", "doctor"))
    said = worked(call(installed / "selfstudy", "methods", cwd=elsewhere))
    assert all(name in said for name in ("rest-mcts", "rest-em", "self-rewarding"))
    assert list(elsewhere.iterdir()) == []


def test_a_fit_on_ones_own_file(elsewhere: Path, installed: Path) -> None:
    """Oracle: the number of rows written; the summary; the model and the report on disk."""
    prompts, solutions = draw(np.random.default_rng(0), 60, 2)
    rows = [{"q": p, "a": lines[-1][-2:]} for p, lines in zip(prompts, solutions, strict=True)]
    (elsewhere / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = "jsonl:mine.jsonl?prompt=q&answer=a&verifier=chain&max_steps=2&step_tokens=16&solution_tokens=24"
    fields = ("--rounds", "1", "--samples", "2", "--temperature", "1.0", "--tuning.steps", "3")
    said = worked(
        call(
            installed / "selfstudy", "fit", "rest-em", "--task", task, "--out", "run", *fields, cwd=elsewhere
        )
    )
    assert "accuracy" in said
    summary = json.loads((elsewhere / "run" / "summary.json").read_text())
    (about,) = summary["metrics"]["rounds"]
    assert about["problems"] + summary["trained"]["count"] <= len({row["q"] for row in rows})
    assert 0 < about["solved"] <= about["problems"] and about["generated_tokens"] > 0
    assert (elsewhere / "run" / "model" / "model.safetensors").stat().st_size > 1e6
    assert "</html>" in (elsewhere / "run" / "report.html").read_text()
