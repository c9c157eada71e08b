"""`selfstudy evaluate`: solvers by name, batches, kills, budgets, value models, servers, refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.app import answerers, answering
from selfstudy.app.answering import Asked
from selfstudy.app.cli import main
from selfstudy.app.saving import save
from selfstudy.core.budget import Meter
from selfstudy.core.errors import BudgetSpent, MachineError, UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.statistics import wilson
from selfstudy.models.language.loading import shipped_value_model
from selfstudy.models.language.value import ValueModel
from selfstudy.search.answering import Answering
from selfstudy.search.beams import TreeOfThought
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.solvers import greedy_solver, tree_solver, voting_solver

from ..contract.sessions import session
from ..models.language.scripted_server import ScriptedServer, reply

TASK = "chain100?steps=3&train=2&validation=3&test=10"
COMMAND = ("evaluate", "--task", TASK, "--out", "out")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def policy() -> Any:
    return selfstudy.model("tiny-lm")


@pytest.fixture(scope="module")
def value(policy: Any) -> ValueModel:
    found = shipped_value_model(policy)
    assert found
    return found


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def told(directory: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(directory, "answers.jsonl").read_text().splitlines()]


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(arguments)
    found = capsys.readouterr()
    return code, found.out, found.err


# What comes out.


def test_each_solver_is_the_one_of_its_name(policy: Any, value: ValueModel) -> None:
    """Oracle: the solvers made by hand, on all problems at once; here they come in batches of four."""
    task = selfstudy.task(TASK)
    common: dict[str, Any] = {"seed": 5, "temperature": task.temperature}
    search, thought = TreeSearch(iterations=6), TreeOfThought(depth=3)
    by_hand = {
        "greedy": greedy_solver(policy, task),
        "majority": voting_solver(policy, task, samples=3, vote="majority", **common),
        "best": voting_solver(policy, task, samples=3, vote="best", value=value, **common),
        "weighted": voting_solver(policy, task, samples=3, vote="weighted", value=value, **common),
        "mcts": tree_solver(policy, task, value, search, **common),
        "tot": tree_solver(policy, task, value, thought, **common),
    }
    for name, solver in by_hand.items():
        score = task.evaluate(solver)
        summary = selfstudy.evaluate(
            task=TASK, model="tiny-lm", solver=name, samples=3, seed=5, out=name, batch=4,
            search={"iterations": 6}, thought={"depth": 3},
        )  # fmt: skip
        row = summary["evaluated"]
        assert [line["right"] for line in told(name)] == list(score.correct)
        assert [line["id"] for line in told(name)] == list(score.ids)
        assert (row["accuracy"], row["count"]) == (score.accuracy, 10)
        assert (row["low"], row["high"]) == wilson(sum(score.correct), 10)
        assert row["generated_tokens"] == score.generated_tokens == summary["spent"]["generated_tokens"]
        assert row["scored_tokens"] == score.scored_tokens
        assert summary["spent"]["verifier_calls"] == 10 and summary["unanswered"] == 0


def test_the_command_and_its_files(capsys: pytest.CaptureFixture[str], policy: Any) -> None:
    """Oracle: the same in Python; greedy solutions drawn by hand; rates from the counts and the seconds."""
    code, out, _ = said_by(capsys, *COMMAND, "--test-limit", "6", "--batch", "4")
    assert code == 0
    summary = read("out/summary.json")
    row, seconds = summary["evaluated"], summary["spent"]["seconds"]
    task, meter = selfstudy.task(TASK), Meter()
    solutions = greedy_solver(policy, task)(task.test[:6], meter)
    assert [line["solution"] for line in told("out")] == ["\n".join(steps) for steps in solutions]
    assert [line["answer"] for line in told("out")] == [
        task.answer(steps, problem) for steps, problem in zip(solutions, task.test, strict=False)
    ]
    right = sum(line["right"] for line in told("out"))
    rates = summary["metrics"]
    assert rates["right solutions per second"] == pytest.approx(right / seconds, rel=0.2)
    assert rates["generated tokens per second"] == pytest.approx(row["generated_tokens"] / seconds, rel=0.2)
    for words in (
        "greedy, seed 0",
        "6 test problems",
        f"{100 * row['accuracy']:.1f} %",
        "right solutions per",
    ):
        assert words in out
    page = Path("out/report.html").read_text()
    assert "<title>evaluate on chain100" in page and "Answers" in page and page.count("<article") == 6
    again = selfstudy.evaluate(task=TASK, test_limit=6, batch=4, out="two")
    assert again["evaluated"] == row and told("two") == told("out")
    assert read("two/run.json") == read("out/run.json")


def test_settings_of_the_searches_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: run.json; an unknown option is refused with the nearest name."""
    search = ("--solver", "mcts", "--search.iterations", "2", "--search.branch", "2", "--temperature", "0.5")
    assert said_by(capsys, *COMMAND, *search, "--test-limit", "1")[0] == 0
    fields = read("out/run.json")["fields"]
    assert (fields["solver"], fields["temperature"]) == ("mcts", 0.5)
    assert (fields["search"]["iterations"], fields["search"]["branch"]) == (2, 2)
    code, _, err = said_by(capsys, *COMMAND, "--search.brunch", "2")
    assert code == 2 and "Did you mean '--search.branch'" in err


def test_another_split(policy: Any) -> None:
    """Oracle: the validation problems of the task."""
    selfstudy.evaluate(task=TASK, split="validation", out="out")
    assert [line["id"] for line in told("out")] == [problem.id for problem in selfstudy.task(TASK).validation]


def test_what_a_model_wrote_is_escaped(monkeypatch: pytest.MonkeyPatch, policy: Any) -> None:
    """Oracle: no element of a solution reaches the page."""
    monkeypatch.setattr(
        answering, "make_solver", lambda *_, **__: lambda problems, _: [("<script>alert(1)",)] * len(problems)
    )
    selfstudy.evaluate(task=TASK, model=policy, out="out", test_limit=1)
    page = Path("out/report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


# Interruptions and budgets.


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_killed_and_resumed(share: float, tmp_path: Path) -> None:
    """Oracle: the run that was not killed; a batch that is recorded is not answered again."""
    command = ["evaluate", "--task", TASK, "--solver", "majority", "--samples", "2", "--batch", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = session(command, whole)
    assert done["code"] == 0, Path(f"{whole}.log").read_text()
    assert session(command, cut, within=round(share * done["within"]))["code"] == -9
    records = cut / "partial" / "answers" / "records.jsonl"
    before = records.read_bytes() if records.exists() else b""
    assert main(["resume", str(cut)]) == 0
    assert records.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert told(str(cut)) == told(str(whole))
    one, two = (read(f"{folder}/summary.json") for folder in (cut, whole))
    assert one["evaluated"] == two["evaluated"]
    assert {**one["spent"], "seconds": 0} == {**two["spent"], "seconds": 0}


def test_a_budget_ends_it_and_a_larger_one_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: a greedy chain of three steps has 24 tokens: a batch of 4 is covered, a second is not."""
    code, out, _ = said_by(capsys, *COMMAND, "--batch", "4", "--budget", "tokens=130")
    summary = read("out/summary.json")
    assert code == 0 and summary["ended_by_budget"] == "generated_tokens"
    assert (summary["evaluated"]["count"], summary["unanswered"]) == (4, 6) and len(told("out")) == 4
    assert "left      6 problems: selfstudy resume out --budget" in out and "new run" not in out
    first = told("out")
    assert said_by(capsys, "resume", "out", "--budget", "tokens=4000")[0] == 0
    summary = read("out/summary.json")
    assert (summary["unanswered"], summary["ended_by_budget"]) == (0, None)
    assert summary["budget"] == {"generated_tokens": 4000} and told("out")[:4] == first
    whole = selfstudy.evaluate(task=TASK, batch=4, out="whole")
    assert told("whole") == told("out") and whole["evaluated"] == summary["evaluated"]


def test_a_budget_below_one_batch(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: exit code 5; no summary of nothing."""
    code, _, err = said_by(capsys, *COMMAND, "--budget", "tokens=20")
    assert code == 5 and "budget of 20 generated tokens does not cover one batch of 10 problems" in err
    assert not Path("out/summary.json").exists()
    with pytest.raises(BudgetSpent):
        selfstudy.evaluate(task=TASK, out="out", budget={"tokens": 20})


def test_a_finished_one_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same summary, nothing loaded; another configuration is refused, and changes nothing."""
    done = selfstudy.evaluate(task=TASK, out="out", test_limit=2)
    files = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    monkeypatch.setattr(selfstudy, "model", None)
    monkeypatch.setattr(selfstudy, "task", None)
    assert selfstudy.evaluate(task=TASK, out="out", test_limit=2) == done
    with pytest.raises(UsageError, match=r"fields.samples was 8, now 9"):
        selfstudy.evaluate(task=TASK, out="out", test_limit=2, samples=9)
    assert files == {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}


def test_a_worker_elsewhere_does_the_same(policy: Any, value: ValueModel, tmp_path: Path) -> None:
    """Oracle: a batch answered here; there it is done by what Ray's pickle has carried."""
    carried = pytest.importorskip("ray").cloudpickle
    task = selfstudy.task(TASK)
    for solver in ("greedy", "mcts"):
        settings = Answering(solver=solver, search=TreeSearch(iterations=3))
        asked = Asked(task=TASK, model="tiny-lm", answering=settings)
        with Run(tmp_path / solver, asked.config()) as run:
            work = answering._answering(asked, run, task, policy, value)
            there = pickle.loads(carried.dumps(work))
            assert there((2, 3)) == work((2, 3))


# Value models.


def test_the_value_model_of_the_models_run(
    tmp_path: Path, policy: Any, value: ValueModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the folder beside the model is read; another one that is named goes before it."""
    save(policy, tmp_path / "run" / "model")
    for place in ("run", "other"):
        named = value.copy()
        named.name = place
        save(named, tmp_path / place / "value")
    taken: list[str] = []
    make = answering.make_solver

    def noted(settings: Answering, model: Any, task: Any, value: ValueModel, *, seed: int) -> Any:
        taken.append(value.name)
        return make(settings, model, task, value, seed=seed)

    monkeypatch.setattr(answering, "make_solver", noted)
    common: dict[str, Any] = {"task": TASK, "solver": "best", "samples": 2, "test_limit": 2}
    selfstudy.evaluate(**common, model="run/model", out="a")
    selfstudy.evaluate(**common, model="run/model?rows=8", value=Path("other/value"), out="b")
    selfstudy.evaluate(**common, model="tiny-lm", out="c")
    assert set(taken[:2]) == {"run"} and set(taken[2:4]) == {"other"} and set(taken[4:]) == {value.name}


def test_value_models_that_are_not_there(tmp_path: Path, policy: Any) -> None:
    """Oracle: the paragraphs, and no directory."""
    policy.save(tmp_path / "plain")
    common: dict[str, Any] = {"task": TASK, "out": "out"}
    with pytest.raises(UsageError, match=r"'mcts' needs a value model, and none comes with .*--value"):
        shutil.copytree("plain", "mine")
        (tmp_path / "mine" / "language_model.json").unlink()
        selfstudy.evaluate(**common, model="mine", solver="mcts")
    with pytest.raises(UsageError, match=r"plain holds no value model"):
        selfstudy.evaluate(**common, model="tiny-lm", solver="best", value="plain")
    with pytest.raises(UsageError, match=r"'majority' asks no value model: leave --value plain out"):
        selfstudy.evaluate(**common, model="tiny-lm", solver="majority", value="plain")
    assert not Path("out").exists()


# Servers.


def test_a_served_model_is_asked_nothing_twice() -> None:
    """Oracle: a server that solves chains and breaks at the fifth: its answers before that are kept."""
    from selfstudy.data.chains import solve

    broken = [True]

    def script(body: dict[str, Any], number: int) -> Any:
        if number >= 4 and broken[0]:
            return 500, {}, {"error": "out of order"}
        text = "\n".join(solve(body["prompt"]))
        return reply(text, tokens=len(text), finish="stop")

    with ScriptedServer(script) as server:
        model = f"openai:{server.url}?output_price=1000000&retries=0&concurrency=1"
        common: dict[str, Any] = {"task": TASK, "model": model, "out": "out"}
        with pytest.raises(MachineError):
            selfstudy.evaluate(**common)
        broken[0] = False
        done = selfstudy.evaluate(**common)
    assert len(server.asked) == 4 + 1 + 6
    assert {body["prompt"] for _, _, body in server.asked} == {p.prompt for p in selfstudy.task(TASK).test}
    assert (done["evaluated"]["accuracy"], done["served"]["requests"]) == (1, 6)
    assert done["spent"]["cost"] == done["evaluated"]["generated_tokens"]


def test_a_limit_of_the_bill() -> None:
    """Oracle: batches of two that the price covers; going on pays for the others."""
    from selfstudy.data.chains import solve

    def script(body: dict[str, Any], _: int) -> Any:
        text = "\n".join(solve(body["prompt"]))
        return reply(text, tokens=len(text), finish="stop")

    with ScriptedServer(script) as server:
        model = f"openai:{server.url}?output_price=1000000"
        common: dict[str, Any] = {"task": TASK, "model": model, "out": "out", "batch": 2}
        part = selfstudy.evaluate(**common, budget={"cost": 110})
        assert 0 < part["unanswered"] < 10 and part["spent"]["cost"] <= 110
        done = selfstudy.evaluate(**common)
    assert part["evaluated"]["accuracy"] == done["evaluated"]["accuracy"] == 1
    assert done["spent"]["cost"] == done["evaluated"]["generated_tokens"] > 110


# Refusals.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"solver": "magority"}, r"Unknown solver 'magority'. Did you mean 'majority'"),
        ({"samples": 0}, r"samples is 0; it must be at least 1"),
        ({"temperature": 0.0}, r"temperature is 0.0; it must be above 0"),
        ({"search": {"iterations": None}}, r"set exactly one of the two limits"),
        ({"split": "tset"}, r"Unknown split 'tset'. Did you mean 'test'"),
        ({"budget": "tokns=3"}, r"Unknown budget unit 'tokns'"),
        ({"ray": "locl"}, r"There is no Ray cluster 'locl'"),
        ({"speed": 3}, r"Unknown field 'speed'"),
    ],
)
def test_settings_are_refused_before_anything_is_loaded(
    given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the paragraph; no task and no model is touched, nothing is written."""
    monkeypatch.setattr(selfstudy, "model", None)
    monkeypatch.setattr(selfstudy, "task", None)
    with pytest.raises(UsageError, match=words):
        selfstudy.evaluate(task=TASK, out="out", **given)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        ("digits", "tiny-lm", r"'digits' has none.*such as chain100.*jsonl:"),
        (TASK, "linear-attention", r"'linear-attention' is none. Take tiny-lm"),
        ("chain100?steps=2&train=2&validation=0&test=3", "tiny-lm", r"no validation problems"),
    ],
)
def test_other_tasks_and_models(task: str, model: str, words: str) -> None:
    """Oracle: the paragraph says what it is for."""
    with pytest.raises(UsageError, match=words):
        selfstudy.evaluate(task=task, model=model, split="validation", out="out")
    assert not Path("out").exists()


def test_loading_is_of_what_is_named(policy: Any) -> None:
    """Oracle: things that are given are taken as they are."""
    task = selfstudy.task(TASK)
    assert answerers.task_and_model("t", "m", task, policy) == (task, policy)
    summary = selfstudy.evaluate(task=task, model=policy, test_limit=1, out="out")
    assert (summary["task"], summary["model"]) == (task.name, "tiny-lm")
