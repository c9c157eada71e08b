"""Maps handed to real Ray workers, against the same maps done in this process."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.cluster import check_place, connected
from selfstudy.core.errors import DataError, MachineError, MissingExtra, Stopped, UsageError
from selfstudy.core.fan_out import fan_out
from selfstudy.core.run import Run
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.methods.reasoning.rest_em import RestEm

PROGRAM = Path(__file__).with_name("fanning.py")


@pytest.fixture(scope="module")
def workers():
    handler = signal.getsignal(signal.SIGTERM)
    with fan_out("local", workers=2) as found:
        assert signal.getsignal(signal.SIGTERM) == handler
        yield found


@pytest.fixture(autouse=True)
def one_thread():
    """Workers have one thread each, and sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outcome(run, result=None):
    """All that must not depend on who worked."""
    log = run.directory / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {
        "result": result,
        "spent": {**run.meter.snapshot(), "seconds": 0},
        "refused": run.meter.refused,
        "lines": [{**line, "seconds": 0} for line in lines],
    }


def once_killed(task, victim, folder):
    """The task; its verifier notes every check in `folder` and kills its process at the first of `victim`."""
    grade = task._doors.grade

    def grade_or_die(problems, solutions, meter, test_too):
        for problem in problems:
            with open(folder / "checks", "a") as file:
                file.write(f"{problem.id} {os.getpid()}\n")
            if problem.id == victim and not (folder / "killed").exists():
                (folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return grade(problems, solutions, meter, test_too)

    task._doors = task._doors._replace(grade=grade_or_die)
    return task


def test_rest_em_with_a_killed_worker_equals_one_process(tmp_path, workers):
    """Oracle: the same fit in this process: weights, records, log and counts, bit for bit."""
    method = RestEm(rounds=1, samples=2, temperature=1.0, batch=2, tuning=FineTuning(steps=2, batch=8))
    found = {}
    for name, fanned in (("alone", None), ("fanned", workers)):
        (tmp_path / f"{name}-notes").mkdir()
        task = selfstudy.task("chain100?steps=2&train=12&validation=0&test=12")
        if fanned:
            once_killed(task, task.train[5].id, tmp_path / f"{name}-notes")
        with Run(tmp_path / name, {}, seed=4, fan_out=fanned) as run:
            fitted = method.fit(task.metered(run.meter), selfstudy.model("tiny-lm"), run)
            weights = [value.tolist() for value in fitted.model.module.state_dict().values()]
            found[name] = outcome(run, {"records": run.result("samples-0"), "metrics": fitted.metrics})
        found[name]["weights"] = weights
    assert found["fanned"] == found["alone"]
    checks = [line.split() for line in (tmp_path / "fanned-notes" / "checks").read_text().splitlines()]
    # In batches of two and two passes: the killed worker had checked the problem before its victim.
    again = [task.train[4].id, task.train[5].id]
    assert sorted(problem for problem, _ in checks) == sorted([p.id for p in task.train] * 2 + again)
    by_victim = [process for problem, process in checks if problem == again[1]]
    assert by_victim[0] not in by_victim[1:]
    assert len({process for _, process in checks}) >= 3


@pytest.mark.parametrize("limit", [None, 0.4, 6.0, 17.0])
@pytest.mark.parametrize("careful", [False, True])
def test_the_budget_ends_where_it_would_in_one_process(tmp_path, workers, limit, careful):
    """Oracle: the map in this process, of items that charge fractions and notice the budget's end or not."""

    def map_in(folder, fanned):
        with Run(folder, {}, seed=1, budget=Budget(flops=limit), fan_out=fanned) as run:

            def work(item):
                from selfstudy.core.errors import BudgetSpent

                drawn = []
                for i in range(item % 5):
                    try:
                        run.meter.charge(flops=0.1 * (item + i), samples=1)
                    except BudgetSpent:
                        if careful:
                            return {"cut": item}
                        raise
                    drawn.append(float(run.rng("item", item, i).random()))
                    run.log(item=item, i=i)
                return drawn

            return outcome(run, run.map("items", range(14), work))

    alone = map_in(tmp_path / "alone", None)
    assert map_in(tmp_path / "fanned", workers) == alone
    assert limit != 6.0 or 0 < len(alone["result"]) < 14 or careful


def test_a_map_ends_when_it_is_told_to(tmp_path, workers):
    """Oracle: by hand; what workers did beyond is neither recorded nor charged."""
    with Run(tmp_path, {}, fan_out=workers) as run:

        def work(item):
            run.meter.charge(samples=1)
            return item

        assert run.map("items", range(9), work, until=lambda done: sum(done) >= 3) == [0, 1, 2]
        assert run.meter.snapshot()["samples"] == 3
        assert run.map("items", range(9), work) == list(range(9))
        assert run.meter.snapshot()["samples"] == 9


def test_two_work_at_the_same_time(tmp_path, workers):
    """Oracle: each item waits for the other one to be begun, which one process never gets to."""

    def work(item):
        os.mkfifo(tmp_path / f"begun-{item}")
        other = tmp_path / f"begun-{1 - item}"
        while not other.exists():
            os.sched_yield()
        return os.getpid()

    with Run(tmp_path / "run", {}, fan_out=workers) as run:
        assert len({*run.map("items", range(2), work), os.getpid()}) == 3


def test_an_item_that_kills_twice_is_named_and_the_rest_is_kept(tmp_path, workers, caplog):
    """Oracle: the file of each item's attempts; after the repair only what was missing is done."""

    def work(item):
        with open(tmp_path / f"attempts-{item['n']}", "a") as file:
            file.write("x")
        if item["n"] == 3 and not (tmp_path / "repaired").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return item["n"]

    items = [{"n": n} for n in range(5)]
    with (
        Run(tmp_path / "run", {}, fan_out=workers) as run,
        caplog.at_level(logging.WARNING),
        pytest.raises(MachineError, match=r"Item 4 of 'items' \(\{'n': 3\}\) ended 2 workers, one after the"),
    ):
        run.map("items", items, work)
    assert "A worker died in item 4 of 'items'; another does it again." in caplog.text
    attempts = [(tmp_path / f"attempts-{n}").read_text() for n in range(4)]
    assert attempts == ["x", "x", "x", "xx"]
    (tmp_path / "repaired").touch()
    with Run(tmp_path / "run", {}, fan_out=workers) as run:
        assert run.map("items", items, work) == list(range(5))
    assert [(tmp_path / f"attempts-{n}").read_text() for n in range(4)] == ["x", "x", "x", "xxx"]


def test_errors_come_back_in_order(tmp_path, workers):
    """Oracle: the errors that the work raises; the log and the counts of the map in this process.

    MissingExtra makes its message of two words, and must not make it again on the way.
    """

    def broken(item):
        run.meter.charge(verifier_calls=2)
        run.log(item=item)
        if item == 2:
            raise DataError("The third row is empty.")
        if item == 5:
            raise MissingExtra("faiss", "search")
        return 1 // (item - 4)

    for folder, fanned in (("alone", None), ("fanned", workers)):
        with Run(tmp_path / folder, {}, fan_out=fanned) as run:
            with pytest.raises(DataError, match="The third row is empty"):
                run.map("items", range(6), broken)
            with pytest.raises(MissingExtra, match="This needs the package 'faiss', which"):
                run.map("other", [5], broken)
            with pytest.raises(ZeroDivisionError) as caught:
                run.map("later", [4, 2], broken)
            assert outcome(run)["lines"][-1]["item"] == 4
            assert run.meter.snapshot()["verifier_calls"] == 10
    assert "In a Ray worker" in caught.value.__notes__[0]
    assert "in broken" in caught.value.__notes__[0]


def test_what_is_said_in_a_worker_is_said_here(tmp_path, workers, caplog):
    """Oracle: the message, once for each item."""

    def work(item):
        logging.getLogger("selfstudy.toy").warning("Item %d is hard.", item)

    with Run(tmp_path, {}, fan_out=workers) as run, caplog.at_level(logging.WARNING):
        run.map("items", range(3), work)
    assert [record.getMessage() for record in caplog.records] == [f"Item {i} is hard." for i in range(3)]


def test_what_cannot_be_sent_is_refused(tmp_path, workers):
    """Oracle: a lock has no copy; a run's stages belong to its own process."""
    lock = threading.Lock()
    with Run(tmp_path, {}, fan_out=workers) as run:
        with pytest.raises(
            UsageError, match=r"The work of 'items' cannot be sent .*cannot pickle '_thread\.lock"
        ):
            run.map("items", range(3), lambda item: lock.locked())
        with pytest.raises(UsageError, match="may use the run's key, rng, meter, check and log alone"):
            run.map("items", range(3), lambda item: run.stage("inner", lambda: item))


def test_a_signal_stops_the_run_and_ends_what_is_under_way(tmp_path, workers):
    """Oracle: the item that would never end; the records before it."""
    parent, records = os.getpid(), tmp_path / "partial" / "items" / "records.jsonl"

    def work(item):
        if item == 2:
            while not records.exists() or len(records.read_text().splitlines()) < 2:
                os.sched_yield()
            os.kill(parent, signal.SIGTERM)
            signal.pause()
        return item

    with Run(tmp_path, {}, fan_out=workers) as run, pytest.raises(Stopped, match="SIGTERM"):
        run.map("items", range(4), work)
    with Run(tmp_path, {}, fan_out=workers) as run:
        assert run.map("items", range(4), lambda item: -item) == [0, 1, -2, -3]


def test_a_killed_run_goes_on(tmp_path, workers):
    """Oracle: the map in this process; the killed one had its own cluster, and recorded three items."""
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        import fanning
    finally:
        sys.path.pop(0)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, PROGRAM, tmp_path / "killed"],
            env={**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout + done.stderr == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "killed"]  # Ray writes nothing into the home folder
    assert len((tmp_path / "killed/partial/items/records.jsonl").read_text().splitlines()) == 3
    resumed = fanning.draw(tmp_path / "killed", workers)
    assert resumed == fanning.draw(tmp_path / "alone", None)


# Clusters.


@pytest.mark.parametrize("where", ["", "locl", "10.0.0.5", "10.0.0.5:", "ray://10.0.0.5:10001", ":6379"])
def test_words_that_name_no_cluster_are_refused(where):
    """Oracle: the message says what may be given."""
    with pytest.raises(UsageError, match="Give local, auto, or HOST:PORT"):
        check_place(where)


def test_without_ray(monkeypatch):
    """Oracle: the extra's name. Hidden from the finder, as Ray is installed here."""
    monkeypatch.setattr("selfstudy.core.cluster.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'selfstudy\[ray\]'"):
        check_place("local")


def test_a_process_has_one_cluster(tmp_path, workers):
    """Oracle: another one is refused; auto takes the one there is, whose cores are taken."""
    with pytest.raises(UsageError, match="connected to a Ray cluster already"), connected("local"):
        pass
    with Run(tmp_path, {}, fan_out=workers) as run:
        run.map("items", range(2), lambda item: item)
    with pytest.raises(MachineError, match="has no free core"), fan_out("auto"):
        pass
    with fan_out(workers) as same, fan_out(None) as none:
        assert same is workers
        assert none is None
