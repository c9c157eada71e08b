"""What a training with hints did: how often they were needed, whether they helped, what was gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfstudy.evaluation.pass_at_k import Gains
from selfstudy.evaluation.pictures import Picture, line, picture

ACCURACIES = {
    "raw_accuracy": "answers without a hint",
    "guided_accuracy": "answers with a hint, to problems that failed without",
    "guided_share": "groups with hinted answers in the batch",
}


def guidance_pictures(lines: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Return the course of a training with hints; what was never seen is left out.

    Args:
        lines: of the log, as `run.metrics()` gives them.
    """
    logged = [row for row in lines if "raw_accuracy" in row]
    if not logged:
        return []
    course = picture(
        "With and without hints",
        [_curve(logged, key, name) for key, name in ACCURACIES.items() if _has(logged, key)],
        x="step",
        y="share",
        note="Hints teach while failed problems are solved with them; as answers without a hint become "
        "right, fewer groups need one.",
    )
    if not _has(logged, "guided_kl"):
        return [course]
    away = picture(
        "How far hinted answers are from the policy without hints",
        [_curve(logged, "guided_kl", "mean log ratio with over without")],
        x="step",
        y="nats per token",
    )
    return [course, away]


def gains_picture(found: Gains) -> Picture:
    """Return pass@k before and after."""
    counts = found.to_json()
    return picture(
        "pass@k of training problems, without hints",
        [
            line(name, [str(k) for k in curve], curve.values(), mode="lines+markers")
            for name, curve in {"before": found.before, "after": found.after}.items()
        ],
        x="k",
        y="pass@k",
        note=f"Of {counts['problems']} problems {counts['self_distilled']} that were solved now and then are "
        f"solved more often, {counts['capability']} that never were are solved now, and {counts['lost']} no "
        "longer are.",
        layout={"xaxis": {"type": "category"}},
    )


def _curve(logged: Sequence[Mapping[str, Any]], key: str, name: str) -> dict[str, Any]:
    rows = [row for row in logged if key in row]
    return line(name, [row["step"] for row in rows], [row[key] for row in rows], mode="lines+markers")


def _has(logged: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(key in row for row in logged)
