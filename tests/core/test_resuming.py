"""Runs in processes of their own that are killed and stopped; `training.py` is the program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("training.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("sessions")
    done = subprocess.run(
        [sys.executable, PROGRAM, place], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}


@pytest.fixture
def kills(found):
    return found["kills"]


@pytest.fixture
def signals(found):
    return found["signals"]


def test_the_uninterrupted_run(kills):
    """Oracle: counts by hand: 2 trainings of 9 steps of 8 samples, 4 answers, a line for each and 4 more."""
    whole = kills["whole"]
    assert whole["spent"]["samples"] == 144
    assert whole["spent"]["verifier_calls"] == 4
    assert len(whole["log"]) == 2 * 9 + 4 + 4
    assert not any(".tmp" in name for name in whole["files"])


@pytest.mark.parametrize("part", ["weights", "answers", "spent", "log", "files"])
def test_killed_and_resumed_equals_uninterrupted(kills, part):
    """Oracle: the uninterrupted run, bit for bit; kills before file operations and by a timer."""
    for codes, outcome in kills["runs"]:
        assert codes[-1] == 0, codes
        assert outcome[part] == kills["whole"][part], codes


def test_the_kills_happened(kills):
    """Oracle: each session but the last ended by a signal, except where it outran its second kill."""
    assert kills["events"] > 100
    by_event, by_timer = kills["runs"][:-3], kills["runs"][-3:]
    assert all(codes[0] == -9 for codes, _ in by_event)
    assert sum(codes[1:-1] == [-9] for codes, _ in by_event) >= 4
    assert {code for codes, _ in by_timer for code in codes[:-1]} <= {-14}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_cleanly(found, signals, name):
    """Oracle: exit code 130, step 4 finished and saved at once, the resumed session goes on at step 5."""
    it = signals[name]
    assert it["code"] == 130
    assert it["reached"]
    assert it["saved"][-1] == "000000005"
    assert it["after"] == 0
    assert it["steps"] == [5, 6, 7, 8]
    assert it["outcome"] == found["kills"]["whole"]
    assert f"Stopped by {name}. Nothing is lost: selfstudy resume" in found["stderr"]


def test_the_second_interrupt_is_obeyed_at_once(found, signals):
    """Oracle: exit code 130 within step 4, nothing saved by it, and still the same run in the end."""
    it = signals["twice"]
    assert it["code"] == 130
    assert not it["reached"]
    assert it["saved"][-1] == "000000004"
    assert it["steps"] == [4, 5, 6, 7, 8]
    assert it["outcome"] == found["kills"]["whole"]
    assert "selfstudy: interrupted" in found["stderr"]
