"""`selfstudy bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, add_seed, positive


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=("run", "score", "targets"), help="what to do")
    parser.add_argument("of", nargs="+", metavar="WORKLOAD or DIR", help="what to do it with")
    parser.add_argument(
        "--submissions",
        default="nesterov,adamw,nadamw,lion",
        help="names or module:function, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--ruleset", default="external", choices=("external", "self-tuning"))
    parser.add_argument("--studies", type=int, default=3, help="whose median counts (default: 3)")
    parser.add_argument("--trials", type=int, help="of each study, or of each search (default: 5, or 20)")
    parser.add_argument("--seeds", type=int, default=5, help="whose median is a target (default: 5)")
    add_seed(parser)
    parser.add_argument(
        "--clock", default="cost", choices=("cost", "wall"), help="that counts (default: cost)"
    )
    parser.add_argument("--r-max", type=float, default=4.0, help="times the fastest that count (default: 4)")
    parser.add_argument("--reference", help="submission that speed-ups are over (default: the first)")
    parser.add_argument("--strict", action="store_true", help="refuse to score where trials are missing")
    parser.add_argument("--out", type=Path, help="the run's directory, or the score's file")


def _work(known: argparse.Namespace, _: list[str]) -> None:
    trials, seeds = positive("--trials", known.trials), positive("--seeds", known.seeds)
    out = known.out or Path("runs") / f"bench-{known.part}"
    if known.part == "score":
        _score(known)
    elif known.part == "targets":
        _targets(known, out, trials or 20, seeds or 1)
    else:
        _run(known, out, trials or 5)


def _score(known: argparse.Namespace) -> None:
    from selfstudy.app.benching import bench_score
    from selfstudy.app.tables import Output

    bench_score(
        [Path(each) for each in known.of],
        r_max=known.r_max,
        clock=known.clock,
        strict=known.strict,
        reference=known.reference,
        out=known.out,
        console=Output(),
    )


def _targets(known: argparse.Namespace, out: Path, trials: int, seeds: int) -> None:
    from selfstudy.app.benching import bench_targets
    from selfstudy.app.tables import Output

    bench_targets(known.of, out, seed=known.seed, trials=trials, seeds=seeds, console=Output())


def _run(known: argparse.Namespace, out: Path, trials: int) -> None:
    from selfstudy.app.benching import bench_run
    from selfstudy.app.tables import Output
    from selfstudy.evaluation.bench_protocol import Protocol

    protocol = Protocol(ruleset=known.ruleset, studies=known.studies, trials=trials, clock=known.clock)
    protocol.check()
    bench_run(
        known.of, known.submissions.split(","), out, protocol=protocol, seed=known.seed, console=Output()
    )


COMMAND = Command(
    "which training algorithm is first at the targets of small workloads",
    _add_options,
    _work,
    epilog="run and targets take names of workloads, such as digits-mlp; score takes folders of runs, "
    "or NAME=FOLDER of a submission in AlgoPerf's own format.",
)
