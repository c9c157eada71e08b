"""report.html holds the run's data, and nothing that a model wrote becomes markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from selfstudy.app.report import write_report
from selfstudy.app.trees import forest_nodes
from selfstudy.evaluation.pictures import bars, line, moving_picture, picture
from selfstudy.evaluation.scores import ACCURACY, Metric
from selfstudy.evaluation.tolerances import within

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&<!--\u2028"


class Page(HTMLParser):
    """The elements of a page, and the JSON it embeds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.classes: list[str] = []
        self.data: Any = None
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.classes += (dict(attributes).get("class") or "").split()
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        self._in_data = tag == "script" and ("id", "data") in attributes

    def handle_data(self, data: str) -> None:
        if self._in_data and self.data is None:
            self.data = json.loads(data)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory in which everything a model or a user wrote is hostile."""
    node = {"id": 0, "parent": None, "text": HOSTILE, "value": 0.5, "prior": float("nan"), "visits": 2}
    files = {
        "run.json": {
            "method": HOSTILE,
            "task": "exam",
            "model": "m",
            "seed": 0,
            "fields": {"search": {"branch": 3}},
        },
        "summary.json": {
            "base": ACCURACY.row([True] * 38 + [False] * 62),
            "trained": ACCURACY.row([True] * 61 + [False] * 39, generated_tokens=4200),
            "searchers": {HOSTILE: ACCURACY.row([True] * 77 + [False] * 23, generated_tokens=100_000)},
            "gain": {"mean": 0.23, "low": 0.1, "high": 0.36, "n": 100},
            "spent": {"generated_tokens": 123456},
            "budget": {"generated_tokens": 200000},
        },
        "trees.json": [{"title": HOSTILE, "nodes": [{**node, "ended": False, "correct": None}]}],
        "samples.json": [
            {"prompt": HOSTILE, "before": HOSTILE, "after": "61", "before_right": False, "after_right": True}
        ],
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    lines = [{"stage": f"policy{HOSTILE}", "step": step, "loss": 1 / (step + 1)} for step in range(3000)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_the_page_holds_the_data(run: Path) -> None:
    """Oracle: the figures that were put in."""
    text = write_report(run).read_text()
    page = Page(text)
    for figure in (
        "38.0 %",
        "61.0 %",
        "77.0 %",
        "+23.0",
        "123,456",
        "200,000",
        "search.branch",
        "newly right (1)",
    ):
        assert figure in text
    assert page.data["trees"][0]["nodes"][0]["text"] == HOSTILE, "embedded whole"
    assert page.data["trees"][0]["nodes"][0]["prior"] is None, "not a number is null in JSON"
    (loss, tokens) = page.data["charts"]
    assert loss["traces"][0]["y"][0] == 1 and len(loss["traces"][0]["y"]) <= 1000
    assert [trace["y"] for trace in tokens["traces"]] == [[0.61], [0.77]]
    assert tokens["traces"][1]["x"] == [1000]


def test_what_a_model_wrote_stays_text(run: Path) -> None:
    """Oracle: an HTML parser sees the page's own elements only."""
    text = write_report(run).read_text()
    page = Page(text)
    assert page.tags.count("script") == 3 and "img" not in page.tags
    assert page.links == [], "nothing is fetched"
    assert "default-src 'none'" in text
    assert "<img src=x" not in text and "onerror=alert(1)&gt;" in text
    names = [trace["name"] for chart in page.data["charts"] for trace in chart["traces"]]
    assert all("<" not in name for name in names), "plotly reads names as markup"


@pytest.fixture
def laboratory(tmp_path: Path) -> Path:
    """A run that is judged by a loss, and left pictures."""
    loss = Metric(name="squared error", lower_is_better=True)
    frames = [(f"{HOSTILE}{step}", [bars(HOSTILE, [HOSTILE], [step])]) for step in range(3)]
    still = picture(HOSTILE, [line("a", [0, 1], [0, 1])], note=HOSTILE)
    files = {
        "run.json": {"method": "m", "task": "t", "model": "n", "seed": 0},
        "summary.json": {
            "metric": loss.to_json(),
            "base": loss.row([0.3, 0.5]),
            "trained": loss.row([0.1, 0.2]),
            "gain": {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 2},
            "metrics": {"the best": loss.row([0.1, 0.1]), "cosine": 0.99},
            "held_to": [within("gap", 0.01, most=0.02), within(HOSTILE, 0.5, least=0.9)],
        },
        "pictures.json": [still, moving_picture("Moves", frames, over="step")],
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    return tmp_path


def test_a_loss_is_shown_as_one(laboratory: Path) -> None:
    """Oracle: the means by hand; no percent, no columns of tokens, bars as long as the largest of them."""
    text = re.sub(r"<script>.*?</script>", "", write_report(laboratory).read_text(), flags=re.DOTALL)
    assert re.findall(r'tile"><b>(.*?)</b><span>(.*?)</span>', text) == [
        ("0.4", "squared error before"),
        ("0.15", "squared error after"),
        ("+0.25", "less squared error"),
    ]
    assert "<dt>cosine</dt><dd>0.99</dd>" in text and "<dt>the best</dt>" not in text
    held_to = text[text.index("<h2>Held to") : text.index("<h2>Figures")]
    assert re.findall(r"<td.*?>(0\..*?|at .*?)</td>", held_to) == [
        "0.01",
        "at most 0.02",
        "0.5",
        "at least 0.9",
    ]
    assert held_to.index("✓ holds") < held_to.index("✗ fails") and "<img" not in held_to
    table = text[text.index("<h2>Results") : text.index("<h2>Held to")]
    assert re.findall(r"<td>(.*?)</td>", table) == ["base model", "trained model", "the best"]
    assert "tokens" not in table and " %</td>" not in table
    high = json.loads((laboratory / "summary.json").read_text())["base"]["high"]
    assert f'width:{100 * 0.4 / high:.1f}%"></i>' in table


def test_pictures_are_drawn_in_a_browser(laboratory: Path) -> None:
    """Oracle: the elements that plotly makes in a real browser, under the page's own security policy."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = write_report(laboratory)
    quiet = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--virtual-time-budget=8000")  # fmt: skip
    command = [browser, "--headless", "--no-sandbox", *quiet, f"--user-data-dir={laboratory / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    seen = Page(done.stdout)
    assert seen.classes.count("js-plotly-plot") == 2
    assert seen.classes.count("slider-container") == 1 and seen.classes.count("updatemenu-button") == 2
    assert "img" not in seen.tags and "alert" not in "".join(seen.tags)


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    """Oracle: a run that has only begun has settings and nothing else."""
    (tmp_path / "run.json").write_text(
        json.dumps({"method": "cram", "task": "exam", "model": "m", "seed": 0})
    )
    text = write_report(tmp_path).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["How it was made"]
    assert "has not finished" in text and len(text) < 60_000, "plotly is left out too"


def test_scripts_write_text_only() -> None:
    """Oracle: the page's script has none of the ways to turn text into markup."""
    script = (Path(write_report.__code__.co_filename).parent / "report.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_forest_nodes() -> None:
    """Oracle: a tree of three nodes written by hand."""
    from selfstudy.search.tree import Forest

    record = {
        "branch": 2,
        "end_gate": 0.9,
        "trees": [
            {
                "problem": 0,
                "answer": -1,
                "actions": [None, "1+1=2", "1+1=3"],
                "parent": [-1, 0, 0],
                "visits": [2, 1, 0],
                "prior": [0.0, 0.9, 0.2],
                "value": [0.7, 0.95, 0.2],
                "expanded": [0],
                "ended": [1],
            }
        ],
    }
    root, right, other = forest_nodes(Forest.from_json(record), 0, [False, True, False])
    assert (root["parent"], root["text"], root["correct"], root["value"]) == (None, "", None, 0.7)
    assert (right["parent"], right["text"], right["ended"], right["correct"]) == (0, "1+1=2", True, True)
    assert (other["visits"], other["ended"], other["correct"]) == (0, False, None)
