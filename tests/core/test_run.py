from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Budget
from selfstudy.core.errors import BudgetSpent, MachineError, Stopped, UsageError
from selfstudy.core.files import Log
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run


class Saved:
    """A stage result with files of its own."""

    def __init__(self, text):
        self.text = text

    def save(self, folder):
        (folder / "text").write_text(self.text)

    @classmethod
    def load(cls, folder):
        return cls((folder / "text").read_text())


class Unfinished(Exception):
    """Stands in for a crash."""


def tree(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def crash():
    raise Unfinished


def never():
    raise AssertionError("done a second time")


# The directory.


def test_another_configuration_is_refused(tmp_path):
    """Oracle: the difference field by field, and the directory byte for byte as before."""
    with Run(tmp_path, {"method": "a", "fields": {"rounds": 2}}) as run:
        run.log(x=1)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"fields\.rounds was 2, now 3; seed was 0, now 1") as caught:
        Run(tmp_path, {"method": "a", "fields": {"rounds": 3}}, seed=1)
    assert "Nothing was changed" in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", ["thesis.txt", ".hidden", "sub/file"])
def test_a_foreign_directory_is_refused(tmp_path, content):
    """Oracle: anything of the user's in it; nothing is added, not even a lock."""
    (tmp_path / content).parent.mkdir(exist_ok=True)
    (tmp_path / content).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="holds no run"):
        Run(tmp_path)
    assert tree(tmp_path) == before


def test_a_run_killed_at_its_first_write_can_start_again(tmp_path):
    """Oracle: a lock and a temporary are ours, and go."""
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.41.tmp").write_text("{")
    with Run(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.json"}


def test_leftovers_of_a_kill_go(tmp_path):
    """Oracle: no temporary anywhere in the directory once it is opened again."""
    Run(tmp_path).close()
    for place in ("stages/outer", "partial/fit"):
        (tmp_path / place / ".x.5.tmp").mkdir(parents=True)
        (tmp_path / place / ".x.5.tmp" / "half").touch()
    Run(tmp_path).close()
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_place_that_cannot_be_a_directory(tmp_path):
    """Oracle: a UsageError that says so."""
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(UsageError, match="cannot be made or written"):
            Run(tmp_path / place)


def test_a_damaged_run_json_is_named(tmp_path):
    """Oracle: a MachineError with the path."""
    Run(tmp_path).close()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(MachineError, match=r"run\.json is damaged"):
        Run(tmp_path)


OTHER = """
import sys
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
try:
    Run(sys.argv[1])
except UsageError as error:
    sys.exit(str(error))
"""


def test_two_processes_cannot_work_in_one_directory(tmp_path):
    """Oracle: a second process is refused while the first holds the run, and enters after it."""

    def other():
        arguments = [sys.executable, "-c", OTHER, str(tmp_path)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False).stderr

    with Run(tmp_path):
        assert "is being worked on by another process" in other()
        with pytest.raises(UsageError, match="another process"):
            Run(tmp_path)
    assert other() == ""


# Stages.


def test_a_stage_is_done_once(tmp_path):
    """Oracle: the second session gets the result without the work; both see the same JSON data."""
    given = {"t": (1, 2), 3: np.float32(0.5), "a": np.arange(2), "nan": None}
    with Run(tmp_path) as run:
        first = run.stage("s", lambda: given)
    with Run(tmp_path) as run:
        second = run.stage("s", never)
    assert first == second == {"t": [1, 2], "3": 0.5, "a": [0, 1], "nan": None}


def test_a_stage_result_with_files(tmp_path):
    """Oracle: what load gives for what save wrote."""
    with Run(tmp_path) as run:
        assert run.stage("s", lambda: Saved("hello")).text == "hello"
    with Run(tmp_path) as run:
        assert run.stage("s", never).text == "hello"


def test_a_result_that_could_not_be_read_back_is_refused_at_once(tmp_path):
    """Oracle: an error in the first session, not in the second, and nothing recorded."""

    class Local(Saved):
        pass

    with Run(tmp_path) as run, pytest.raises(UsageError, match="top of a module"):
        run.stage("s", lambda: Local("x"))
    assert not (tmp_path / "stages").exists()


def test_a_stage_never_imports_what_a_file_names(tmp_path):
    """Oracle: a result whose record names a foreign module, with sums to match, is refused."""
    with Run(tmp_path) as run:
        run.stage("s", lambda: Saved("x"))
    folder = tmp_path / "stages" / "s"
    content = json.loads((folder / "stage.json").read_text())
    (folder / "stage.json").write_text(json.dumps({**content, "kind": "antigravity:X"}))
    from selfstudy.core.checkpoint import SUMS, write_sums

    (folder / SUMS).unlink()
    write_sums(folder)
    with Run(tmp_path) as run, pytest.raises(MachineError, match="not ours"):
        run.stage("s", never)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", ["text", "stage.json", "checksums.json"])
def test_a_damaged_stage_is_named_and_can_be_redone(tmp_path, name):
    """Oracle: the error names file and folder; deleting the folder redoes that stage alone."""
    with Run(tmp_path) as run:
        run.stage("before", lambda: 1)
        run.stage("s", lambda: Saved("first"))
    folder = tmp_path / "stages" / "s"
    (folder / name).write_text((folder / name).read_text()[:-4])
    with Run(tmp_path) as run:
        assert run.stage("before", never) == 1
        with pytest.raises(MachineError) as caught:
            run.stage("s", never)
    assert str(folder / name) in str(caught.value)
    assert f"delete the folder {folder}" in str(caught.value)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with Run(tmp_path) as run:
        assert run.stage("before", never) == 1
        assert run.stage("s", lambda: Saved("second")).text == "second"


def test_the_result_of_a_stage_can_be_looked_up(tmp_path):
    """Oracle: the stage's value, and neither the counts nor the place in the log move."""
    with Run(tmp_path) as run:
        run.stage("a", lambda: {"x": 1})
        run.meter.charge(samples=4)
        run.log(y=1)
        assert run.result("a") == {"x": 1}
        assert run.meter.snapshot()["samples"] == 4
        assert len(run.metrics()) == 1
        with pytest.raises(UsageError, match="no finished stage 'b'"):
            run.result("b")


def test_stages_within_stages(tmp_path):
    """Oracle: equal names in different stages are different work; a crash keeps what finished inside."""
    calls = []

    def inner(value):
        calls.append(value)
        return value

    def outer(run, after=lambda: None):
        def work():
            first = run.stage("inner", lambda: inner("nested"))
            answers = run.map("items", [1, 2], lambda item: item)
            after()
            return [first, *answers]

        return run.stage("outer", work)

    with Run(tmp_path) as run:
        assert run.stage("inner", lambda: inner("top")) == "top"
        with pytest.raises(Unfinished):
            outer(run, crash)
    with Run(tmp_path) as run:
        assert run.stage("inner", never) == "top"
        assert outer(run) == ["nested", 1, 2]
    assert calls == ["top", "nested"]
    assert not (tmp_path / "partial" / "outer").exists()
    with Run(tmp_path) as run:
        assert run.stage("outer", never) == ["nested", 1, 2]


def test_a_failed_stage_leaves_the_scope(tmp_path):
    """Oracle: work after the failure is named as if it had not been tried."""
    with Run(tmp_path) as run:
        with pytest.raises(Unfinished):
            run.stage("a", crash)
        run.log(x=1)
        run.stage("b", lambda: 1)
    assert (tmp_path / "stages" / "b").exists()
    assert Log(tmp_path / "metrics.jsonl").read()[0]["stage"] == ""


# The log and the meter of a resumed run.


def program(run, stop=None):
    """Three stages with lines before, in, between and after; `stop` is called at the end of the last."""
    run.log(at="start")

    def stage(name):
        for i in range(3):
            run.meter.charge(samples=10)
            run.log(i=i)
        if name == "c" and stop:
            stop()
        return name

    for name in "abc":
        run.stage(name, lambda name=name: stage(name))
        run.log(after=name)


def lines(directory):
    read = Log(directory / "metrics.jsonl").read()
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read]


def test_a_resumed_run_keeps_all_lines_and_counts(tmp_path):
    """Oracle: the uninterrupted run's lines and counts; going through a finished run changes no byte."""
    with Run(tmp_path / "whole") as run:
        program(run)
        expected = run.meter.snapshot()
    with Run(tmp_path / "run") as run, pytest.raises(Unfinished):
        program(run, crash)
    for _ in range(2):
        with Run(tmp_path / "run") as run:
            program(run)
            assert {**run.meter.snapshot(), "seconds": 0} == {**expected, "seconds": 0}
            assert len(run.metrics()) == 13
        assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with Run(tmp_path / "run") as run:
        program(run)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_metrics_are_those_so_far(tmp_path):
    """Oracle: a program that looks at its metrics sees the same when it is resumed."""
    seen = []
    for _ in range(2):
        with Run(tmp_path) as run:
            run.log(x=1)
            run.stage("s", lambda run=run: run.log(x=2))
            seen.append([line["x"] for line in run.metrics()])
            run.log(x=3)
    assert seen == [[1, 2], [1, 2]]


def test_redoing_a_deleted_stage_keeps_later_lines(tmp_path):
    """Oracle: the lines of the stages after it."""
    with Run(tmp_path) as run:
        program(run)
    before = lines(tmp_path)
    for path in (tmp_path / "stages" / "a").iterdir():
        path.unlink()
    with Run(tmp_path) as run:
        program(run)
    assert lines(tmp_path) == before


def test_lines_with_timings_do_not_cut_finished_work(tmp_path):
    """Oracle: a line between stages that differs every time; the later stage's lines stay."""
    for session in range(2):
        with Run(tmp_path) as run:
            run.stage("a", lambda: 1)
            run.log(minutes=session)
            run.stage("b", lambda run=run: run.log(b=1))
    assert [line.get("minutes", line.get("b")) for line in lines(tmp_path)] == [0, 1]


def test_counts_outside_stages_are_not_doubled(tmp_path):
    """Oracle: 5 samples charged between stages, in every session."""
    for _ in range(2):
        with Run(tmp_path, budget=Budget(samples=20)) as run:
            run.meter.charge(samples=5)
            run.stage("s", lambda run=run: run.meter.charge(samples=10))
            run.meter.charge(samples=5)
            assert run.meter.snapshot()["samples"] == 20


def test_seconds_go_on_over_sessions(tmp_path):
    """Oracle: seconds that an earlier session recorded are spent from the start of the next."""
    with Run(tmp_path) as run:
        run.meter.restore({"seconds": 50})
        run.stage("s", lambda: 1)
    with Run(tmp_path) as run:
        assert 50 <= run.meter.snapshot()["seconds"] < 60
    with Run(tmp_path, budget=Budget(seconds=49)) as run, pytest.raises(BudgetSpent, match="49 seconds"):
        run.meter.charge(samples=1)


# Steps.


def module():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 1)


def test_steps_end_before_a_step_that_is_not_covered(tmp_path):
    """Oracle: 3 steps of 10 fit in 35; the count is 30, never above the limit."""
    with Run(tmp_path, budget=Budget(samples=35)) as run:
        done = list(run.steps(9, state={}, desc="d", cost={"samples": 10}))
        assert done == [0, 1, 2]
        assert run.meter.snapshot()["samples"] == 30
    with Run(tmp_path / "b", budget=Budget(samples=35)) as run:
        run.meter.charge(samples=35)
        assert list(run.steps(3, state={}, desc="free")) == []  # without cost: until something is used up


def test_a_larger_budget_goes_on(tmp_path):
    """Oracle: the steps of both sessions together are those of an unlimited run."""
    with Run(tmp_path, budget=Budget(samples=45), checkpoint_steps=2) as run:
        assert list(run.steps(8, state={"m": module()}, desc="d", cost={"samples": 10})) == [0, 1, 2, 3]
    with Run(tmp_path, budget=Budget(samples=100), checkpoint_steps=2) as run:
        assert list(run.steps(8, state={"m": module()}, desc="d", cost={"samples": 10})) == [4, 5, 6, 7]
        assert run.meter.snapshot()["samples"] == 80


def test_checkpoints_by_the_clock(tmp_path):
    """Oracle: with no time between, every step but the last is saved; with much, none."""
    for seconds, newest in ((0.0, ["000000002", "000000003"]), (1e9, [])):
        with Run(tmp_path / str(seconds), checkpoint_seconds=seconds) as run:
            for _ in run.steps(4, state={"m": module()}, desc="d"):
                pass
        folder = tmp_path / str(seconds) / "partial" / "d"
        assert sorted(path.name for path in folder.glob("*")) == newest


def test_checkpoints_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    """Oracle: by hand, on a clock of the test: steps of 1 s, saves of 2 s, at least 3 s and 20 s between."""
    clock, saves = [0.0], []
    monkeypatch.setattr("selfstudy.core.run.time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(torch.nn.Linear):
        def state_dict(self, *arguments, **options):
            saves.append(done)
            clock[0] += 2.0
            return super().state_dict(*arguments, **options)

    with Run(tmp_path, checkpoint_seconds=3.0) as run:
        for done in run.steps(40, state={"m": Slow(1, 1)}, desc="d"):  # noqa: B007, looked at by state_dict
            clock[0] += 1.0
    assert saves == [3, 24]


# Maps.


def answer(run, item):
    run.meter.charge(samples=item)
    run.log(item=item)
    return {"item": item, "draw": run.rng("draw", item).random()}


def test_map_does_each_item_once_and_in_order(tmp_path):
    """Oracle: a crash at each item in turn; the results and counts of an uninterrupted run."""
    with Run(tmp_path / "whole") as run:
        expected = run.map("m", range(1, 6), lambda item: answer(run, item))
        counts = run.meter.snapshot()
    calls = []
    for last in (2, 3, 5, None):
        with Run(tmp_path / "run") as run:

            def work(item, run=run, last=last):
                result = answer(run, item)
                if item == last:
                    crash()
                calls.append(item)
                return result

            try:
                results = run.map("m", range(1, 6), work)
            except Unfinished:
                continue
            assert {**run.meter.snapshot(), "seconds": 0} == {**counts, "seconds": 0}
    assert results == expected
    assert calls == [1, 2, 3, 4, 5]
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    with Run(tmp_path / "run") as run:
        assert run.map("m", range(1, 6), lambda _: never()) == expected


def test_map_results_are_the_same_when_read_back(tmp_path):
    """Oracle: tuples are lists in the first session too."""
    for work in (lambda item: (item, {1: np.int64(2)}), lambda _: never()):
        with Run(tmp_path) as run:
            assert run.map("m", [1], work) == [[1, {"1": 2}]]


def test_map_drops_a_cut_record_and_does_that_item_again(tmp_path):
    """Oracle: the record without its newline was not finished."""
    with Run(tmp_path) as run:
        run.map("m", [1, 2, 3], lambda item: item)
    records = tmp_path / "partial" / "m" / "records.jsonl"
    records.write_bytes(records.read_bytes()[:-4])
    calls = []
    with Run(tmp_path) as run:
        assert run.map("m", [1, 2, 3], lambda item: calls.append(item) or item) == [1, 2, 3]
    assert calls == [3]


def test_map_until(tmp_path):
    """Oracle: the loop ends before the item after which nothing more is wanted, resumed or not."""
    for work in (lambda item: item, lambda _: never()):
        with Run(tmp_path) as run:
            assert run.map("m", range(9), work, until=lambda results: sum(results) >= 3) == [0, 1, 2]
    with Run(tmp_path) as run:
        assert run.map("n", range(9), lambda _: never(), until=lambda _: True) == []


def test_map_keeps_earlier_results_when_the_budget_is_spent(tmp_path):
    """Oracle: items of 1, 2, 3 fit in 9; the fourth is cut off after 2 of its 4, which count."""

    def work(run, item):
        for _ in range(item):
            run.meter.charge(samples=1)
        return item

    for _ in range(2):
        with Run(tmp_path, budget=Budget(samples=8)) as run:
            assert run.map("m", range(1, 6), lambda item, run=run: work(run, item)) == [1, 2, 3]
            assert run.meter.snapshot()["samples"] == 8
    with Run(tmp_path, budget=Budget(samples=10)) as run:
        assert run.map("m", range(1, 6), lambda item: work(run, item)) == [1, 2, 3, 4]
        assert run.meter.snapshot()["samples"] == 10


def test_batches_are_recorded_and_flat(tmp_path):
    """Oracle: slices by hand; a batch that was done is not done again; `until` sees batches."""
    seen = []

    def work(batch):
        seen.append(batch)
        if batch == [3, 4]:
            raise RuntimeError
        return [10 * item for item in batch]

    with pytest.raises(RuntimeError), Run(tmp_path) as run:
        run.map_batches("m", [1, 2, 3, 4, 5], 2, work)
    with Run(tmp_path) as run:
        assert run.map_batches("m", [1, 2, 3, 4, 5], 2, lambda batch: batch) == [10, 20, 3, 4, 5]
        assert run.map_batches("n", [1, 2, 3], 2, lambda b: b, until=lambda done: done == [[1, 2]]) == [1, 2]
    assert seen == [[1, 2], [3, 4]]


def test_bars_count_by_weight(tmp_path):
    """Oracle: total, done and advances recorded by a stand-in for the progress."""
    import contextlib

    from selfstudy.core.progress import Progress

    class Recorder(Progress):
        seen = ()

        @contextlib.contextmanager
        def bar(self, description, total, done=0):
            self.seen = [description, total, done]
            yield self.seen.append

    for items, expected in (([[1], [2, 3]], ["m", 3, 0, 1, 2]), ([[1], [2, 3], [4]], ["m", 4, 3, 1])):
        with Run(tmp_path, progress=Recorder(visible=False)) as run:
            run.map("m", items, len, weight=len)
            assert run.progress.seen == expected


# Signals and threads.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_between_items(tmp_path, number):
    """Oracle: the item under way is finished and recorded; the handler of before is back afterwards."""
    handler = signal.getsignal(number)

    def work(item):
        if item == 2:
            os.kill(os.getpid(), number)
        return item

    with pytest.raises(Stopped, match=number.name) as caught, Run(tmp_path) as run:
        run.map("m", [1, 2, 3], work)
    assert str(tmp_path) in str(caught.value)
    assert signal.getsignal(number) == handler
    with Run(tmp_path) as run:
        assert run.map("m", [1, 2, 3], lambda item: item if item == 3 else never()) == [1, 2, 3]


def test_the_second_signal_interrupts_at_once(tmp_path):
    """Oracle: the work does not come to its next line, and is not recorded."""
    reached = []

    def work(item):
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("second")

    with pytest.raises(KeyboardInterrupt), Run(tmp_path) as run:
        run.map("m", [1], work)
    assert reached == ["first"]
    with Run(tmp_path) as run:
        assert run.map("m", [1], lambda item: item) == [1]


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path):
    """Oracle: it works, and the handlers are untouched."""
    handler, results = signal.getsignal(signal.SIGINT), []

    def work():
        with Run(tmp_path) as run:
            results.append(run.stage("s", lambda: 7))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [7]
    assert signal.getsignal(signal.SIGINT) is handler


def test_streams_depend_on_the_seed_and_the_name(tmp_path):
    """Oracle: equal for equal seed and name in another run, different otherwise."""
    draws = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with Run(tmp_path / name, seed=seed) as run:
            run.rng("other").random(5 if name == "b" else None)
            draws[name] = (run.rng("x", 1).random(), run.key("x", 1))
    assert draws["a"] == draws["b"]
    assert draws["a"][0] != draws["c"][0]
    assert draws["a"][1] != draws["c"][1]


def test_a_method_is_an_interface():
    """Oracle: fit must be written, validate accepts, results default to empty."""
    with pytest.raises(NotImplementedError):
        Method().fit(None, None, None)
    assert Method().validate() is None
    assert Fit(model=1) == Fit(model=1, parts={}, metrics={})
