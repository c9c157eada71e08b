"""`selfstudy compare` in several processes: the same as in one, killed and resumed, hopeless runs ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import selfstudy
from selfstudy.app.comparison import comparison_result, notes, stopped_text
from selfstudy.app.comparison_page import comparison_charts
from selfstudy.app.comparison_workers import require_importable
from selfstudy.app.images import write_images
from selfstudy.app.report import write_report
from selfstudy.app.watching import SEEN, STOPPED, final_loop
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.index import Entry
from selfstudy.evaluation.scores import ACCURACY

TASK, MODEL = "digits?labels=60&train=80&test=40", "conv?first=4&stages=2"
PLAIN = {"crop": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}


def fields(steps: int = 24) -> dict[str, Any]:
    """Settings of two methods that take about a second."""
    return {
        "sla": {"objective": "base", "training": {"steps": steps, "batch": 16, "views": PLAIN}},
        "barlow-twins": {"pretraining": {"epochs": 4, "batch": 16}, "projector": (8, 8)},
    }


def compared(out: Path, **more: Any) -> dict[str, Any]:
    settings = {
        "task": TASK,
        "model": MODEL,
        "seeds": 2,
        "fields": fields(),
        "out": out,
        "workers": 1,
        **more,
    }
    return selfstudy.compare("sla", "barlow-twins", **settings)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison done by this process."""
    out = tmp_path_factory.mktemp("alone") / "c"
    compared(out)
    return out


def told(result: dict[str, Any]) -> dict[str, Any]:
    """All that does not depend on the clock."""
    methods = {
        slug: {**found, "spent": [{**each, "seconds": 0} for each in found["spent"]]}
        for slug, found in result["results"].items()
    }
    return {"methods": methods, "differences": result["differences"], "target": result["time_to_target"]}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_two_processes_come_to_the_same(alone: Path, tmp_path: Path) -> None:
    """Oracle: the same comparison in this process, weights included."""
    found = compared(tmp_path / "c", workers=2)
    assert told(found) == told(read(alone / "result.json"))
    for run in ("sla/seed-1", "barlow-twins/seed-0"):
        weights = [next((out / run / "model").rglob("model.safetensors")) for out in (alone, tmp_path / "c")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_looks_change_nothing(alone: Path, tmp_path: Path) -> None:
    """Oracle: a plain fit of the same seed, which nobody looks at."""
    budget = read(alone / "compare.json")["budget"]
    settings = {"task": TASK, "model": MODEL, "seed": 1, "budget": budget, "out": tmp_path / "run"}
    selfstudy.fit("sla", **settings, **fields()["sla"])
    plain, seen = [path / "metrics.jsonl" for path in (tmp_path / "run", alone / "sla/seed-1")]
    lines = [
        [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]
        for path in (plain, seen)
    ]
    assert lines[0] == lines[1]


def test_looks_are_those_of_the_models(alone: Path) -> None:
    """Oracle: the finished model's own figure on validation items is the last look's; 20 looks, in order."""
    task = selfstudy.task(TASK)
    lines = [json.loads(line) for line in (alone / "sla/seed-0" / SEEN).read_text().splitlines()]
    assert [line["level"] for line in lines] == list(range(1, 21))
    model = selfstudy.load(alone / "sla/seed-0")
    values = task.evaluate(model, split="validation").values
    assert lines[-1]["figure"] == pytest.approx(sum(values) / len(values))
    assert lines[-1]["spent"]["samples"] == 24 * 16
    loop = lines[-1]["loop"]
    (alone / "sla/seed-0/validation.json").write_text(json.dumps(lines[-1]["figure"]))
    assert final_loop(alone / "sla/seed-0", 1.0, ACCURACY) == loop
    (alone / "sla/seed-0/validation.json").write_text(json.dumps(lines[-1]["figure"] + 0.2))
    assert final_loop(alone / "sla/seed-0", 1.0, ACCURACY) is None, "another loop makes the model"
    (alone / "sla/seed-0/validation.json").unlink()


def test_a_page_and_a_table_come_from_the_result_alone(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the page and the lines that were made beside the runs."""
    from selfstudy.app.cli import main

    shutil.copy(alone / "result.json", tmp_path / "result.json")
    assert main(["report", str(alone)]) == 0
    whole = capsys.readouterr().out.replace(str(alone), "X")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "X") == whole and "sla - barlow-twins" in whole
    pages = [write_report(folder).read_text() for folder in (alone, tmp_path)]
    tables = [page[page.index("<h2>Comparison") : page.index("<h2>How it was made")] for page in pages]
    assert tables[0] == tables[1] and "Budget spent" in tables[0] and "until validation items" in tables[0]


def test_nothing_is_done_twice(alone: Path, tmp_path: Path) -> None:
    """Oracle: two runs taken away are done anew, the other two keep their times of change."""
    out = tmp_path / "c"
    shutil.copytree(alone, out)
    shutil.rmtree(out / "sla/seed-1")
    (out / "result.json").unlink()
    kept = [*(out / "sla/seed-0").rglob("*"), *(out / "barlow-twins").rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in kept if path.is_file()}
    found = compared(out, workers=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert told(found) == told(read(alone / "result.json"))


def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    """Oracle: its processes end with it; what had been finished is kept to the byte, and the result is that
    of a comparison that nobody killed."""
    settings = {"task": TASK, "model": MODEL, "seeds": 2, "fields": fields(60), "workers": 2}
    here = {**settings, "workers": 1}
    whole = selfstudy.compare("sla", "barlow-twins", **here, out=tmp_path / "whole")
    out = tmp_path / "cut"
    script = tmp_path / "script.py"
    script.write_text(
        f"import selfstudy\nselfstudy.compare('sla', 'barlow-twins', out={str(out)!r}, **{settings!r})\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script)], env=environment)
    deadline = time.monotonic() + 120
    while not any(out.glob("*/seed-*/curve.json")) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)  # a step of waiting for a file, not a pause that the outcome depends on
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/seed-*/curve.json")}
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "its processes outlive it"
        time.sleep(0.02)
    assert 1 <= len(kept) <= 4
    found = selfstudy.compare("sla", "barlow-twins", **here, out=out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert told(found) == told(whole)


def test_hopeless_runs_are_ended(tmp_path: Path) -> None:
    """Oracle: a network that hardly learns beside one that learns; the first seed runs to its end, later runs
    of the bad one do not; asked again, nothing is done twice and the result is the same."""
    slow = {**fields(120)["sla"], "training": {**fields(120)["sla"]["training"], "learning_rate": 1e-9}}
    settings = {
        "task": "digits?labels=200&test=40",
        "model": MODEL,
        "seeds": 2,
        "fields": {"sla": slow, "barlow-twins": fields()["barlow-twins"]},
        "stop_hopeless": 1.0,
        "workers": 1,
        "out": tmp_path / "c",
    }
    found = selfstudy.compare("sla", "barlow-twins", **settings)
    bad = found["results"]["sla"]
    assert bad["seeds"] == ["0"] and list(bad["ended"]) == ["1"]
    ended = bad["ended"]["1"]
    assert 0 < ended["done"] < 1 and ended["asymptote"] < ended["leader"] - 1
    assert found["stopped"]["runs"] == 1 and found["stopped"]["best"] == "barlow-twins"
    saved = bad["spent"][0]["samples"] - ended["spent"]["samples"]
    assert found["stopped"]["saved"] == saved > 0
    assert found["differences"][0]["low"] is None, "one common seed: no interval"
    assert "1 hopeless run was ended" in stopped_text(found["stopped"], "samples")[0]
    assert "ended" in write_report(tmp_path / "c").read_text()
    times = (tmp_path / "c/sla/seed-1" / STOPPED).stat().st_mtime_ns
    again = selfstudy.compare("sla", "barlow-twins", **settings)
    assert told(again) == told(found)
    assert (tmp_path / "c/sla/seed-1" / STOPPED).stat().st_mtime_ns == times


def test_a_target_that_nobody_reaches(alone: Path) -> None:
    """Oracle: it is unreached, with no number; the score is 0 and nothing is infinite in the JSON."""
    asked = {**read(alone / "compare.json"), "target": 1.5}
    folders = [alone / slug / f"seed-{seed}" for slug in asked["methods"] for seed in range(2)]
    found = comparison_result(asked, folders, ACCURACY)
    target = found["time_to_target"]
    assert target["times"]["sla"] == {"0": None, "1": None} and set(target["scores"].values()) == {0.0}
    assert "  sla: never reached in 2 runs" in notes(found)
    json.dumps(found, allow_nan=False)
    assert comparison_charts(found)


def test_one_seed_tells_no_interval(alone: Path) -> None:
    """Oracle: no bound, no p value, and a line that says so."""
    asked = {**read(alone / "compare.json"), "seeds": 1}
    found = comparison_result(asked, [alone / slug / "seed-0" for slug in asked["methods"]], ACCURACY)
    pair = found["differences"][0]
    assert [pair[key] for key in ("low", "high", "p", "p_holm", "effect")] == [None] * 5
    assert pair["bootstrap"] == [None, None]
    assert any("single seed tells no interval" in line for line in notes(found))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stop_hopeless": -1.0}, "margin of 0 points or more"),
        ({"stop_hopeless": 1.0, "seeds": 1}, "two seeds or more"),
        ({"workers": 0}, "give 1 or more"),
        ({"seeds": 0}, "needs 1 or more"),
        ({"target": 80.0}, "accuracy is a share, from 0 to 1"),
        ({"workers": 2, "ray": "local"}, "Leave one of the two away"),
    ],
)
def test_what_is_refused(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Oracle: one paragraph, and nothing is written."""
    with pytest.raises(UsageError, match=message):
        compared(tmp_path / "c", **more)
    assert not (tmp_path / "c").exists()


def test_hopeless_runs_need_validation_items(tmp_path: Path) -> None:
    """Oracle: a task without any is refused before any work."""
    with pytest.raises(DataError, match="holds none out"):
        selfstudy.compare(
            "rest-em",
            "grpo",
            task="chain100?steps=2&train=4&validation=0&test=4",
            budget="tokens=10",
            stop_hopeless=1.0,
            workers=1,
            out=tmp_path / "c",
        )
    assert not (tmp_path / "c").exists()


def test_an_error_of_a_process_is_ours(tmp_path: Path) -> None:
    """Oracle: the error that the fit raises in this process, with the run it is of; exit code and all."""
    wrong = {**fields()["sla"], "training": {**fields()["sla"]["training"], "learning_rate": 1e30}}
    with pytest.raises(DataError, match=r"sla, seed 0: The loss is \S+ at step"):
        compared(tmp_path / "c", workers=2, fields={**fields(), "sla": wrong})


def test_methods_of_a_script_are_refused_in_processes() -> None:
    """Oracle: a class of __main__, which no other process can import."""
    entry = Entry(
        slug="mine", title="", authors="", year=2026, family="", needs="", gives="", target="__main__:Mine"
    )
    with pytest.raises(UsageError, match="workers=1"):
        require_importable([entry])


def test_pictures_as_files(alone: Path, tmp_path: Path) -> None:
    """Oracle: one readable PNG of 1800 x 1040 points for each chart, drawn by a real browser."""
    from PIL import Image

    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium on this machine")
    shutil.copy(alone / "result.json", tmp_path / "result.json")
    files = write_images(tmp_path)
    assert len(files) == len(comparison_charts(read(alone / "result.json"))) == 4
    for file in files:
        with Image.open(file) as image:
            assert image.size == (1800, 1040) and len(image.convert("RGB").getcolors(1 << 24)) > 5
