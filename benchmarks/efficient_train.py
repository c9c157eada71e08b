"""Wall-clock to the accuracy that training on whole images ends with: EfficientTrain against it.

Method: for each of five seeds a vision transformer is trained on 5,000 images of CIFAR-10, with the settings
of claims/efficient_train.py: "full" on whole images, "curriculum" on low frequencies first, in a fifth more
steps, from the same first weights, with the same images and views in the same order. What full reaches on
the 2,000 test images after its last step is the target of that seed. The curriculum is looked at every 20
steps of its last stage and after the last step, always on whole images; its time is that of the first look
which reaches the target. Looks are not timed, everything else of a step is: views, crop, forward, backward
and update. A ratio is full's time by that of the curriculum. A target that is not reached has no ratio: it
is listed as unreached, and counts as below every other in the median. "ends" is the ratio of the whole
trainings. One thread; the two of a seed run one after the other, the first changing from seed to seed.

    SELFSTUDY_DATA=... OMP_NUM_THREADS=1 python benchmarks/efficient_train.py [--seeds 5] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import selfstudy
from selfstudy.core.machine import hardware, versions
from selfstudy.core.run import Run
from selfstudy.data.rand_augment import RandAugment
from selfstudy.learning.supervised import Losses, Seen, Supervised, supervise
from selfstudy.methods.training.efficient_train import EfficientTrain

MODEL, BATCH, LABELS, EVERY, NEEDED = "vit?patch=4&layers=3&hidden=48", 128, 5000, 20, 1.4
STEPS = {"full": 500, "curriculum": 600}
TRAINING = Supervised(
    batch=BATCH, optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, warmup=0.067, clip=1.0
)
CURRICULA: dict[str, Literal["none", "bands"]] = {"full": "none", "curriculum": "bands"}
ARMS = {
    name: EfficientTrain(
        curriculum=curriculum,
        augmentation=RandAugment(probability=0.0),
        training=replace(TRAINING, steps=STEPS[name]),
    )
    for name, curriculum in CURRICULA.items()
}
Look = tuple[float, float]


def train(name: str, seed: int) -> list[Look]:
    """Return the seconds so far and the accuracy at each look; the last one is after the last step."""
    task = selfstudy.task(f"cifar10?labels={LABELS}&draw={seed}")
    start = task.prepared(selfstudy.model(f"{MODEL}&seed={seed}"))
    arm, looks, watching = ARMS[name], list[Look](), [0.0]
    schedule = arm.schedule(start)
    steps = STEPS[name]
    last_stage = steps * (1 - schedule.stages[-1].share)

    with Run(Path(tempfile.mkdtemp()), {}, seed=seed, checkpoint_seconds=1e9) as run:
        classifier = arm.classifier_of(task, start, run.key("heads"))
        plain = arm.losses_of(classifier, 0)
        began = time.perf_counter()

        def look() -> None:
            now = time.perf_counter()
            looks.append((now - began - watching[0], float(np.mean(task.evaluate(classifier).values))))
            watching[0] += time.perf_counter() - now

        def losses(seen: Seen) -> Losses:
            if name == "curriculum" and seen.step >= last_stage and seen.step % EVERY == 0:
                look()
                classifier.train()
            return plain(seen)

        def whole() -> dict[str, Any]:
            found = supervise(
                run,
                classifier,
                losses,
                task.labelled,
                arm.training,
                views=lambda step: arm.views(schedule(step / steps)),
            )
            look()
            return found

        run.stage("training", whole)
    return looks


def measure(seed: int) -> dict[str, Any]:
    """Return times, accuracies and ratios of a seed."""
    names = [*ARMS] if seed % 2 == 0 else [*reversed(ARMS)]
    looks = {name: train(name, seed) for name in names}
    seconds, target = looks["full"][-1]
    reached = [at for at, accuracy in looks["curriculum"] if accuracy >= target]
    return {
        "seed": seed,
        "target": target,
        "full_seconds": round(seconds, 2),
        "curriculum_seconds": round(looks["curriculum"][-1][0], 2),
        "curriculum_accuracy": looks["curriculum"][-1][1],
        "reached_after_seconds": round(reached[0], 2) if reached else None,
        "ratio": round(seconds / reached[0], 3) if reached else None,
        "ends": round(seconds / looks["curriculum"][-1][0], 3),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(asked.seeds):
        rows.append(measure(seed))
        print(rows[-1], flush=True)
    unreached = [row["seed"] for row in rows if row["ratio"] is None]
    median = statistics.median([row["ratio"] or 0.0 for row in rows])
    found = {
        "median_ratio": median or None,
        "needed": NEEDED,
        "holds": median >= NEEDED,
        "unreached": unreached,
        "median_ends": statistics.median([row["ends"] for row in rows]),
        "mean_accuracy_lost": statistics.mean([row["target"] - row["curriculum_accuracy"] for row in rows]),
        "seeds": rows,
        "threads": 1,
        "versions": versions(),
        "hardware": hardware(),
    }
    print({name: found[name] for name in ("median_ratio", "holds", "unreached", "median_ends")})
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
