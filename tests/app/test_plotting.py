"""The page of a method's learning rates."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from selfstudy.app import cli
from selfstudy.app.plotting import CURVES, _parts, rate_pictures
from selfstudy.core.config import from_dict
from selfstudy.core.index import METHODS, find
from selfstudy.learning.schedules import share_of_peak
from selfstudy.learning.stream_schedules import StreamSchedule


def test_the_curve_is_the_rate_of_every_step() -> None:
    """Oracle: the schedule of the settings, worked out by name."""
    fields = {"training": {"steps": 40, "learning_rate": 0.2, "schedule": "stable", "warmup": 0.1}}
    (found,) = rate_pictures(from_dict(find("sla").load(), fields))
    assert found["traces"][0]["y"] == pytest.approx(
        [0.2 * share_of_peak("stable", step, 40, 0.1) for step in range(40)], rel=1e-4
    )


def test_branches_are_drawn_beside_what_goes_on() -> None:
    """Oracle: three domains of 20 updates, each of which is annealed in the last three, on a copy or not."""
    method = find("infinite-lr").load()
    (found,) = rate_pictures(from_dict(method, {"training": {"steps": 20}}))
    ends = [(trace["x"][0], trace["x"][-1]) for trace in found["traces"]]
    assert ends == [(0, 17), (17, 20), (17, 34), (34, 37), (34, 51), (51, 54)]
    (found,) = rate_pictures(from_dict(method, {"training": {"steps": 20, "branch": False}}))
    assert [(t["x"][0], t["x"][-1]) for t in found["traces"]] == [(0, 20), (20, 40), (40, 60)]


def _rated(settings: Any) -> bool:
    names = {field.name for field in fields(settings)}
    return isinstance(settings, StreamSchedule) or "learning_rate" in names


@pytest.mark.parametrize("slug", [slug for slug in METHODS if slug != "icl-gd"])
def test_every_learning_rate_is_drawn(slug: str) -> None:
    """Oracle: the fields called learning_rate, nested ones too; icl-gd's is up to the model's depth."""
    method = find(slug).load()()
    rated = [settings for _, settings in _parts("", method) if is_dataclass(settings) and _rated(settings)]
    known = [one for one in rated if isinstance(one, StreamSchedule) or type(one).__name__ in CURVES]
    assert [type(one).__name__ for one in rated] == [type(one).__name__ for one in known]
    assert len(rate_pictures(method)) == len(rated)


def test_the_command_writes_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the option's plateau is in the page; a field without --plot is refused, and a wrong one."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["show", "infinite-lr", "--plot", "--schedule.plateau", "0.5"]) == 0
    assert capsys.readouterr().out == "Plot: infinite-lr-learning-rate.html\n"
    page = (tmp_path / "infinite-lr-learning-rate.html").read_text()
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])
    assert data["pictures"][0]["traces"][0]["y"][-1] == pytest.approx(0.5 * StreamSchedule().peak)
    assert cli.main(["show", "infinite-lr", "--schedule.plateau", "0.5"]) == 2
    assert cli.main(["show", "infinite-lr", "--plot", "rates.html", "--schedule.floor", "0"]) == 2
    assert not (tmp_path / "rates.html").exists()
    assert cli.main(["show", "self-sorting", "--plot"]) == 2
    assert "nothing to plot" in capsys.readouterr().err
