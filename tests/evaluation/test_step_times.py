"""Times of steps, by a made clock."""

from __future__ import annotations

from selfstudy.evaluation.step_times import step_times


def test_medians_in_turn() -> None:
    """Oracle: a clock that the steps move: by 1, and by 2 but for one slow round and the first one."""
    now, order = [0.0], []

    def step(name: str, seconds: list[float]) -> None:
        order.append(name)
        now[0] += seconds.pop(0)

    slow = [50.0, 2.0, 90.0, 2.0]
    steady = [7.0, 1.0, 1.0, 1.0]
    found = step_times(
        {"slow": lambda: step("slow", slow), "steady": lambda: step("steady", steady)},
        rounds=3,
        clock=lambda: now[0],
    )
    assert found == {"slow": 2.0, "steady": 1.0}
    assert order == ["slow", "steady"] * 4
