"""A method, a task and a model that take no time, so that the command line itself is what is tested."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import selfstudy
from selfstudy.app.cli import main
from selfstudy.core.errors import UsageError
from selfstudy.core.index import METHODS, Entry
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.scores import ACCURACY


class Skill:
    """A model that knows one number: the share of test problems it solves."""

    name = "skill"
    parameters = 1

    def __init__(self, share: float) -> None:
        self.share = share

    def save(self, folder: Path) -> None:
        (folder / "share.json").write_text(json.dumps(self.share))

    @classmethod
    def load(cls, folder: Path) -> Skill:
        return cls(json.loads((folder / "share.json").read_text()))


class Exam:
    """A task of a hundred problems."""

    name = "exam"
    train = validation = test = ()
    metric = ACCURACY

    def metered(self, meter: Any) -> Exam:
        self.meter = meter
        return self

    def evaluate(self, model: Skill, *, split: str = "test", limit: int | None = None) -> Any:
        count = limit or 100
        right = round(model.share * count)
        correct = (True,) * right + (False,) * (count - right)
        return SimpleNamespace(values=correct, generated_tokens=10 * count, scored_tokens=0)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How it learns."""

    gain: float = 0.1
    """Share gained in a round."""
    tries: int = 3
    """Not used."""


@dataclass(frozen=True, kw_only=True)
class Cram(Method):
    """Learns by saying so."""

    rounds: int = 2
    """How often."""
    pace: Pace = field(default_factory=Pace)
    fail_at: int | None = None
    """Round in which the power is cut."""
    careful: bool = False
    """Not used."""

    def validate(self) -> None:
        if self.rounds < 1:
            raise UsageError(f"rounds is {self.rounds}; it must be at least 1.")

    def cost(self, task: Any, model: Any) -> dict[str, float]:
        return {"generated_tokens": 1000 * self.rounds}

    def fit(self, task: Any, model: Skill, run: Run) -> Fit:
        for r in range(self.rounds):
            if r == self.fail_at and not (run.directory / "power").exists():
                (run.directory / "power").write_text("")
                raise RuntimeError("power cut\nin two lines")
            share = model.share
            model = run.stage(f"round-{r}", lambda r=r, share=share: Skill(self.learn(share, r, run)))
        return Fit(model=model, parts={"other": Skill(0.5)}, metrics={"final": model.share})

    def learn(self, share: float, r: int, run: Run) -> float:
        run.meter.charge(generated_tokens=1000)
        run.log(round=r, part="learn", step=r, loss=1.0 / (r + 1))
        return share + self.pace.gain + 0.001 * run.seed


class Idle(Cram):
    """Learns nothing."""

    def trial(self, task: Any, model: Any) -> tuple[Callable[[], object], int]:
        return lambda: self.tried.append(model), 50

    tried: ClassVar[list[Any]] = []

    def learn(self, share: float, r: int, run: Run) -> float:
        run.meter.charge(generated_tokens=1000)
        return share + 0.01 * run.seed


for _class in (Skill, Cram, Idle, Pace):
    _class.__module__ = "selfstudy.fake"  # what a run saves is loaded from our own modules only


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put the method in the index, and work in an empty directory."""
    monkeypatch.setitem(sys.modules, "selfstudy.fake", sys.modules[__name__])
    for slug, name, own in (("cram", "Cram", {}), ("idle", "Idle", {"task": "exam", "model": "skill"})):
        entry = Entry(
            slug=slug,
            title="T",
            authors="A",
            year=2026,
            family="fakes",
            needs="n",
            gives="g",
            target=f"selfstudy.fake:{name}",
            **own,
        )
        monkeypatch.setitem(METHODS, slug, entry)
    monkeypatch.setattr(selfstudy, "task", lambda spec: Exam())
    monkeypatch.setattr(selfstudy, "model", lambda spec: Skill(0.4))
    monkeypatch.chdir(tmp_path)


@dataclass
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    fake: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """Run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse's --help and --version
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
