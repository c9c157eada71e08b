"""ReST-MCTS* on real word problems with a real pretrained model: MAWPS and Gemma-3-270M, at small settings.

Method: the command a user would give, `selfstudy fit rest-mcts --task mawps --model gemma-3-270m`, with few
problems and iterations so that it ends within an hour on two cores; one seed. The base, the tuned policy
and self-consistency over samples of the base answer the same held-out problems of our own split. The result
is reported, not judged: with so few problems the intervals are wide. Needs the extra `gemma`, and
SELFSTUDY_DATA with MAWPS in it.

    python claims/reported/mawps.py [--out runs/mawps] [--json claims/results/mawps-gemma-3-270m.json]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import selfstudy
from selfstudy.core.files import read_json, write_json
from selfstudy.core.machine import set_threads
from selfstudy.core.progress import Progress
from selfstudy.core.run import Run
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.search.solvers import voting_solver

TRAIN, TEST, SAMPLES, SEED = 24, 64, 5, 0
FIELDS = {
    "rounds": 1,
    "search": {"iterations": 8, "end_gate": 0.9},
    "batch": 24,
    "per_problem": 2,
    "policy_tuning": {"lora_rank": 8, "learning_rate": 2e-4, "steps": 12, "batch": 8},
    "value_tuning": {"learning_rate": 1e-5, "epochs": 1, "batch": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/mawps"))
    parser.add_argument("--json", type=Path, default=Path("claims/results/mawps-gemma-3-270m.json"))
    options = parser.parse_args()
    set_threads()
    task, model = selfstudy.task("mawps"), selfstudy.model("gemma-3-270m")
    selfstudy.fit(
        "rest-mcts",
        task=task,
        model=model,
        out=options.out / "fit",
        seed=SEED,
        train_limit=TRAIN,
        test_limit=TEST,
        **FIELDS,
    )
    with Run(options.out / "votes", {"samples": SAMPLES}, seed=SEED, progress=Progress()) as run:
        solver = voting_solver(
            model, task, samples=SAMPLES, vote="majority", seed=SEED, temperature=task.temperature
        )
        score = run.stage("votes", lambda: task.evaluate(solver, limit=TEST).to_json())
    summary = read_json(options.out / "fit" / "summary.json")
    summary["self_consistency"] = {
        "samples": SAMPLES,
        **ACCURACY.row(
            score["correct"], generated_tokens=score["generated_tokens"], scored_tokens=score["scored_tokens"]
        ),
    }
    summary["settings"] = {"train": TRAIN, "test": TEST, **FIELDS}
    write_json(options.json, summary)


if __name__ == "__main__":
    main()
