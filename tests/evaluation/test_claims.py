"""Claims: verdicts, evidence, and going on where they were cut off."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.core.fan_out import fan_out
from selfstudy.core.run import Run
from selfstudy.evaluation import claims
from selfstudy.evaluation.claims import Claim, Relation, judge, load_claims, run_claim, together, verdict
from selfstudy.evaluation.statistics import Difference, paired_interval


@pytest.mark.parametrize(
    ("low", "mean", "high", "expected"),
    [
        (0.01, 0.05, 0.09, "holds"),
        (-0.01, 0.05, 0.11, "unclear"),
        (0.0, 0.05, 0.1, "unclear"),
        (-0.2, -0.1, -0.01, "fails"),
        (-0.2, -0.01, 0.19, "fails"),
        (-0.1, 0.0, 0.1, "fails"),
    ],
)
def test_verdict(low: float, mean: float, high: float, expected: str) -> None:
    """Oracle: the rule in words, case by case."""
    assert verdict(Difference(mean, low, high, 5)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.1, 0.2, "holds"), (0.0, 0.2, "holds"), (0.1, 0.2, "fails"), (-0.2, -0.1, "fails")],
)
def test_verdict_on_no_difference(low: float, high: float, expected: str) -> None:
    """Oracle: whether 0 is in the interval; an infinite one tells nothing."""
    assert verdict(Difference((low + high) / 2, low, high, 5), "level") == expected
    assert verdict(Difference(0.0, -math.inf, math.inf, 1), "level") == "unclear"


def test_a_figure_is_held_to_a_number() -> None:
    """Oracle: Student's interval of three figures by hand: mean 0.995, standard error 0.001 / sqrt(3)."""
    measured = [{"cosine": value} for value in (0.994, 0.995, 0.996)]
    found = judge(Relation("close", "cosine", 0.99), measured)
    assert found["verdict"] == "holds" and found["b"] == 0.99 and found["n"] == 3
    assert found["mean"] == pytest.approx(0.005) and found["low"] == pytest.approx(
        0.005 - 4.302653 * 0.001 / math.sqrt(3), rel=1e-5
    )
    assert judge(Relation("too much", "cosine", 0.9955), measured)["verdict"] == "fails"


def test_all_relations_must_hold() -> None:
    """Oracle: the truth table."""
    assert together(["holds", "holds"]) == "holds"
    assert together(["holds", "unclear"]) == "unclear"
    assert together(["holds", "fails", "unclear"]) == "fails"
    assert together([]) == "unclear"


def claim(calls: list[int], stop_at: int | None = None) -> Claim:
    def measure(seed: int, run: Run) -> dict:
        calls.append(seed)
        if seed == stop_at:
            raise RuntimeError("power cut")
        return {
            "new": [True] * (6 + seed % 2) + [False] * (4 - seed % 2),
            "old": 0.3 + 0.01 * (seed % 3),
            "seen": 7.0,
        }

    return Claim(
        name="better",
        statement="New beats old.",
        seeds=range(4),
        measure=measure,
        relations=[Relation("r", "new", "old")],
    )


def test_a_claim_holds_and_shows_its_evidence(tmp_path: Path) -> None:
    """Oracle: the differences worked out by hand."""
    result = run_claim(claim([]), tmp_path)
    differences = [0.6 - 0.3, 0.7 - 0.31, 0.6 - 0.32, 0.7 - 0.3]
    expected = paired_interval(differences)
    (relation,) = result["relations"]
    assert (relation["mean"], relation["low"]) == (pytest.approx(expected.mean), pytest.approx(expected.low))
    assert relation["pairs"] == "seeds" and relation["n"] == 4
    assert result["verdict"] == "holds" and result["complete"]
    assert result["values"]["new"] == [0.6, 0.7, 0.6, 0.7]
    assert result["seeds"] == [0, 1, 2, 3]
    assert result["versions"]["selfstudy"] and result["hardware"]["cores"] >= 1 and result["minutes"] >= 0


def test_a_claim_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """Oracle: the list of measured seeds; none is measured twice."""
    calls: list[int] = []
    with pytest.raises(RuntimeError, match="power cut"):
        run_claim(claim(calls, stop_at=2), tmp_path)
    resumed = run_claim(claim(calls), tmp_path)
    assert calls == [0, 1, 2, 2, 3]
    whole = run_claim(claim([]), tmp_path / "whole")
    assert resumed["relations"] == whole["relations"]


def test_fewer_seeds_are_not_complete(tmp_path: Path) -> None:
    """Oracle: the documented flag; a single seed with results by item is judged by items."""
    result = run_claim(claim([]), tmp_path, seeds=[1, 2])
    assert not result["complete"] and result["relations"][0]["n"] == 2
    one = judge(Relation("r", "a", "b"), [{"a": [True] * 30 + [False] * 10, "b": [False] * 40}])
    assert one["pairs"] == "items" and one["n"] == 40 and one["verdict"] == "holds"


def test_a_relation_of_something_unmeasured_is_refused() -> None:
    """Oracle: the message names the nearest contestant."""
    with pytest.raises(UsageError, match="Did you mean 'mcts'"):
        judge(Relation("r", "mtcs", "bon"), [{"mcts": 1.0, "bon": 0.5}])


def test_claims_are_found_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a made-up repository with one claim file."""
    (tmp_path / "src" / "selfstudy").mkdir(parents=True)
    folder = tmp_path / "claims"
    folder.mkdir()
    text = "from selfstudy.evaluation.claims import Claim\n"
    text += (
        "CLAIMS = [Claim(name='a', statement='s', seeds=[0], measure=lambda seed, run: {}, relations=[])]\n"
    )
    (folder / "my_method.py").write_text(text)
    (folder / "_shared.py").write_text("")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert claims.claims_folder() == folder
    assert claims.claimed(folder) == ["my-method"]
    assert [each.name for each in claims.load_claims("my-method")] == ["a"]
    with pytest.raises(UsageError, match="Did you mean 'my-method'"):
        claims.load_claims("my-metod")
    path = claims.record("my-method", [{"name": "a"}], folder / "results")
    assert path == folder / "results" / "my-method.json" and path.exists()


FILE = """
import os
from dataclasses import dataclass
from selfstudy.evaluation.claims import Claim, Relation

@dataclass
class Shift:
    by: float

def measure(seed, run, shift):
    drawn = run.stage("drawn", lambda: float(run.rng("x").random()))
    with open(run.directory / "processes", "a") as file:
        file.write(f"{os.getpid()} ")
    return {"new": drawn + shift.by, "old": drawn, "items": [True, False]}

CLAIMS = [
    Claim(name=name, statement="new beats old", seeds=range(3),
          measure=lambda seed, run, by=by: measure(seed, run, Shift(by)),
          relations=[Relation("r", "new", "old")])
    for name, by in (("R1", 0.5), ("R2", -0.5))
]
"""


def test_seeds_measured_by_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same claims in this process; seeds that are done are read back by either."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "cram.py").write_text(FILE)
    monkeypatch.setattr(claims, "claims_folder", lambda: tmp_path / "claims")
    monkeypatch.chdir(tmp_path)

    def same(a: dict, b: dict) -> bool:
        return {**a, "minutes": 0} == {**b, "minutes": 0}

    with fan_out("local", workers=2) as workers:
        with pytest.raises(UsageError, match="from its file"):
            run_claim(claim([]), tmp_path / "made", fan_out=workers)
        for one in load_claims("cram"):
            alone = run_claim(one, Path("alone") / one.name)
            spread = run_claim(one, Path("spread") / one.name, fan_out=workers)
            assert same(spread, alone) and spread["verdict"] == {"R1": "holds", "R2": "fails"}[one.name]
            files = [tmp_path / "spread" / one.name / f"seed-{seed}" / "processes" for seed in range(3)]
            processes = [file.read_text().split() for file in files]
            assert all(len(some) == 1 for some in processes) and [str(os.getpid())] not in processes
            assert same(run_claim(one, Path("spread") / one.name), alone)
            assert same(run_claim(one, Path("alone") / one.name, fan_out=workers), alone)
            assert [file.read_text().split() for file in files] == processes
