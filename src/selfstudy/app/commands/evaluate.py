"""`selfstudy evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, add_ray, add_seed, always, positive


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, help='such as "chain100" or "jsonl:mine.jsonl"')
    parser.add_argument(
        "--model", default="tiny-lm", help="as for fit, or openai:URL of a server (default: %(default)s)"
    )
    parser.add_argument("--solver", help="greedy, majority, best, weighted, mcts or tot (default: greedy)")
    parser.add_argument("--samples", help="solutions a problem of majority, best and weighted (default: 8)")
    parser.add_argument(
        "--value", help="folder of a value model (default: the one of the model's run, or shipped with it)"
    )
    parser.add_argument("--split", default="test", help="train, validation or test (default: %(default)s)")
    parser.add_argument("--test-limit", type=int, help="answer so many problems (default: all)")
    add_seed(parser)
    parser.add_argument("--budget", help="limits, such as tokens=2e6,cost=5 (default: none)")
    parser.add_argument("--out", type=Path, help="the run's directory (default: runs/SOLVER-TASK-N)")
    add_ray(parser)


def _work(known: argparse.Namespace, rest: list[str]) -> None:
    from selfstudy.app.answering import Asked, evaluate
    from selfstudy.app.fields import config_from
    from selfstudy.app.tables import Output
    from selfstudy.search.answering import Answering

    for name in ("solver", "samples"):
        rest += [f"--{name}", getattr(known, name)] if getattr(known, name) is not None else []
    asked = Asked(
        task=known.task,
        model=known.model,
        answering=config_from(Answering, None, rest),
        value=known.value,
        split=known.split,
        test_limit=positive("--test-limit", known.test_limit),
        seed=known.seed,
    )
    evaluate(asked, known.out, budget=known.budget, ray=known.ray, console=Output())


COMMAND = Command(
    "answer the problems of a task by a language model: once, by votes, or by a search",
    _add_options,
    _work,
    epilog="Settings of the searches have a dot: --search.iterations 30 --search.branch 4 (mcts), "
    "--thought.branch 3 --thought.keep 2 (tot). --temperature 0.7 is that of the draws, --batch 64 how "
    "many problems are answered at once.",
    takes_fields=always,
)
