"""The methods that learn from a judgement of their own answers, on one task at one budget of drawn tokens.

Method: what a user would run, `selfstudy compare` over the methods that work on `chain100?steps=8` with the
embedded tiny model, 200,000 generated tokens for each (about 3,200 answers), five seeds, greedy accuracy
on 500 test problems. Training and validation problems only were used to choose the settings, which are those
below: a rate of 1e-4 for all policy gradients, else each method's own where it spends the whole budget. DNO's
pairs are of its own answers alone, at a fifth of its rate: with the task's solutions among them it trained
away from what it could. ReST-RL draws two answers to each problem before it trains, not 16, which would be
all of the budget. The result is reported, not judged: it is one kind of problem.

    python claims/reported/reward_methods.py [--out runs/which] [--json claims/results/reward-methods.json]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import selfstudy
from selfstudy.core.files import write_json
from selfstudy.core.machine import set_threads

TASK = "chain100?steps=8&train=1000&validation=500&test=500"
BUDGET, SEEDS = {"generated_tokens": 200_000}, 5
GRADIENT = {"learning_rate": 1e-4}
TUNING = {"learning_rate": 1e-4, "epochs": 2, "batch": 64}
LONG = 1000  # steps, so that the budget ends the training
FIELDS: dict[str, dict[str, Any]] = {
    "rest-em": {"samples": 2, "temperature": 1.0, "restart": "previous", "tuning": TUNING},
    "grpo": {"steps": LONG, "gradient": GRADIENT},
    "trice": {"steps": LONG, "tuning": GRADIENT},
    "rest-rl": {
        "value": False,
        "iterations": 1,
        "assembly": {"samples": 2},
        "steps": LONG,
        "gradient": GRADIENT,
    },
    "dno": {"gold": False, "preference": {"learning_rate": 1e-5}},
    "mm-upt": {"steps": LONG, "temperature": 1.0, "monitor": 0, "gradient": GRADIENT},
    "sharpening": {"samples": 16, "tuning": TUNING},
    "self-rewarding": {"temperature": 1.0, "judge": "likelihood", "preference": {"learning_rate": 2e-5}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/which"))
    parser.add_argument("--json", type=Path, default=Path("claims/results/reward-methods.json"))
    options = parser.parse_args()
    set_threads()
    result = selfstudy.compare(
        *FIELDS, task=TASK, model="tiny-lm", budget=BUDGET, seeds=SEEDS, out=options.out, fields=FIELDS
    )
    write_json(options.json, result)


if __name__ == "__main__":
    main()
