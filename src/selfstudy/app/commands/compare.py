"""`selfstudy compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, add_limits, add_ray, always, positive, with_labels


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--task", required=True, help='such as "chain100"')
    parser.add_argument("--labels", type=int, help="use so many labels of the task (default: the task's)")
    parser.add_argument("--model", help="as for fit (default: the one that the methods start from)")
    parser.add_argument(
        "--budget",
        help="what each fit may spend, such as tokens=2e6 (default: the samples that the settings ask for)",
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--out", type=Path, help="the directory (default: runs/compare-TASK-N)")
    add_limits(parser)
    parser.add_argument(
        "--stop-hopeless",
        type=float,
        nargs="?",
        const=1.0,
        metavar="POINTS",
        help="after the first seed end runs whose learning curve stays so far below the best (default: "
        "never; 1 point without a number)",
    )
    parser.add_argument(
        "--target",
        type=float,
        help="figure on validation items to be timed, such as 0.8 (default: what the weakest reaches in half "
        "its runs)",
    )
    parser.add_argument("--workers", type=int, help="fits at the same time (default: one a core)")
    add_ray(parser)


def _work(known: argparse.Namespace, rest: list[str]) -> None:
    from selfstudy.app.comparing import compare, split_options
    from selfstudy.app.tables import Output

    compare(
        known.methods,
        with_labels(known.task, known.labels),
        known.model,
        budget=known.budget,
        seeds=positive("--seeds", known.seeds) or 1,
        out=known.out,
        fields=split_options(known.methods, rest),
        train_limit=positive("--train-limit", known.train_limit),
        test_limit=positive("--test-limit", known.test_limit),
        stop_hopeless=known.stop_hopeless,
        target=known.target,
        workers=known.workers,
        ray=known.ray,
        console=Output(),
    )


COMMAND = Command(
    "several methods on one budget, paired by seed",
    _add_options,
    _work,
    epilog="Fields of a method follow its name, such as --rest-mcts.search.branch 3.",
    takes_fields=always,
)
