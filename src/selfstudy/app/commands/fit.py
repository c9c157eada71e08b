"""`selfstudy fit`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import (
    Command,
    add_limits,
    add_ray,
    add_seed,
    always,
    positive,
    with_labels,
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", help="its name; see `selfstudy methods`")
    parser.add_argument(
        "--task", help='such as "chain100" or "jsonl:mine.jsonl" (default: the method\'s, if it has one)'
    )
    parser.add_argument("--labels", type=int, help="use so many labels of the task (default: the task's)")
    parser.add_argument(
        "--model", help="tiny-lm, a hub id, a folder, a GGUF file, ... (default: the method's)"
    )
    parser.add_argument("--out", type=Path, help="the run's directory (default: runs/METHOD-TASK-N)")
    add_seed(parser)
    parser.add_argument("--budget", help="limits, such as tokens=2e6,seconds=600 (default: none)")
    parser.add_argument("--config", type=Path, help="YAML file of fields; options go before it")
    add_limits(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what it costs and stop")
    add_ray(parser)


def _work(known: argparse.Namespace, rest: list[str]) -> None:
    from selfstudy.app.fields import config_from
    from selfstudy.app.fitting import fit_plan
    from selfstudy.app.plans import Plan, read_budget
    from selfstudy.app.tables import Output
    from selfstudy.core.index import find

    budget = read_budget(known.budget)
    entry = find(known.method)
    plan = Plan(
        slug=known.method,
        method=config_from(entry.load(), known.config, rest),
        task=with_labels(known.task or entry.default_task(), known.labels),
        model=known.model or entry.model,
        seed=known.seed,
        train_limit=positive("--train-limit", known.train_limit),
        test_limit=positive("--test-limit", known.test_limit),
    )
    fit_plan(plan, known.out, budget, dry_run=known.dry_run, ray=known.ray, console=Output())


COMMAND = Command(
    "train a model by a method, and evaluate it before and after",
    _add_options,
    _work,
    epilog="Every other option is a field of the method, nested ones with a dot, such as "
    "--search.branch 3. `selfstudy show METHOD` lists them.",
    takes_fields=always,
    in_group=True,
)
