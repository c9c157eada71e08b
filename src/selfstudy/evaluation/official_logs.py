"""Logs of AlgoPerf's own runner, read into ours, so that they can be scored and put together with others.

Its layout: FOLDER/study_N/WORKLOAD_FRAMEWORK/trial_N/eval_measurements.csv, without the folder of a study
where there is a single one; one row an evaluation, with the step, the accumulated submission time in seconds
and the metrics (mlcommons/algorithmic-efficiency, documentation 0.6).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from selfstudy.core.errors import DataError
from selfstudy.data.tables import read_columns
from selfstudy.learning.timed_trials import Log
from selfstudy.learning.workloads import Better

MEASUREMENTS = "eval_measurements.csv"
TIME, STEP = "accumulated_submission_time", "global_step"


class OfficialTarget(NamedTuple):
    """A workload's metric in the official logs, its validation target, and where it is to go."""

    metric: str
    target: float
    better: Better


# (documentation 0.6); errors there are 1 - accuracy in the logs.
OFFICIAL_TARGETS: dict[str, OfficialTarget] = {
    "criteo1tb": OfficialTarget("loss", 0.123735, "lower"),
    "fastmri": OfficialTarget("ssim", 0.723653, "higher"),
    "imagenet_resnet": OfficialTarget("accuracy", 1 - 0.22569, "higher"),
    "imagenet_vit": OfficialTarget("accuracy", 1 - 0.22691, "higher"),
    "librispeech_conformer": OfficialTarget("wer", 0.085884, "lower"),
    "librispeech_deepspeech": OfficialTarget("wer", 0.119936, "lower"),
    "ogbg": OfficialTarget("mean_average_precision", 0.28098, "higher"),
    "wmt": OfficialTarget("bleu", 30.8491, "higher"),
}


def read_official(
    folder: Path, submission: str, targets: Mapping[str, OfficialTarget] = OFFICIAL_TARGETS
) -> list[Log]:
    """Return the logs of one submission; both clocks are the accumulated submission time.

    Args:
        folder: of the submission.
        submission: its name.
        targets: of workloads, by the names of their folders without the framework.

    Raises:
        DataError: no measurements, a workload without a target, or a file without the columns.
    """
    files = sorted(folder.rglob(MEASUREMENTS))
    if not files:
        raise DataError(
            f"{folder} holds no {MEASUREMENTS}: give the folder of a submission, with "
            f"study_N/WORKLOAD_FRAMEWORK/trial_N/{MEASUREMENTS} in it."
        )
    return [_log(file, folder, submission, targets) for file in files]


def _log(file: Path, folder: Path, submission: str, targets: Mapping[str, OfficialTarget]) -> Log:
    parts = file.relative_to(folder).parts
    if len(parts) < 3:
        raise DataError(f"{file} is not at WORKLOAD_FRAMEWORK/trial_N/{MEASUREMENTS}.")
    workload = re.sub(r"_(jax|pytorch)$", "", parts[-3])
    if workload not in targets:
        raise DataError(
            f"The workload {workload!r} of {file} has no target here; there are those of "
            f"{', '.join(targets)}."
        )
    metric, target, better = targets[workload]
    columns = read_columns(str(file), "csv")
    wanted = (STEP, TIME, f"validation/{metric}")
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DataError(f"{file} has no column {missing[0]!r}; it has {', '.join(columns)}.")
    tests = columns.get(f"test/{metric}", [""] * len(columns[STEP]))
    rows = zip(*(columns[name] for name in wanted), tests, strict=True)
    looks = []
    for step, seconds, validation, test in rows:
        figure = _figure(validation)
        if figure is None:  # a row that is no evaluation
            continue
        time: Any = float(seconds)
        looks.append(
            {
                "step": int(float(step)),
                "wall": time,
                "cost": time,
                "validation": figure,
                "test": _figure(test),
            }
        )
    return {
        "workload": workload,
        "submission": submission,
        "settings": {},
        "target": target,
        "better": better,
        "looks": looks,
        "failed": None,
        "study": _number(parts[-4]) if len(parts) > 3 else 0,
        "trial": _number(parts[-2]),
    }


def _figure(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _number(folder: str) -> int:
    found = re.search(r"_(\d+)$", folder)
    if found is None:
        raise DataError(f"The folder {folder!r} has no number, such as study_0 or trial_1.")
    return int(found.group(1))
