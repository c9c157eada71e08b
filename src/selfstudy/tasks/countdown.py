"""countdown-k: reach a target from k numbers; any solution that replays exactly is right."""

from __future__ import annotations

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.countdown import countdown_ended, draw_countdown, last_result
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.chain import fill_splits
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask

COUNTDOWN_FORM = SolutionForm(ended=countdown_ended, answer=last_result)


def countdown(
    numbers: str,
    *,
    train: int = 1000,
    validation: int = 200,
    test: int = 500,
    seed: int = 0,
    largest: int = 13,
    target: int = 100,
) -> ReasoningTask:
    """Make a countdown task.

    Args:
        numbers: how many numbers, 2 to 8.
        train: number of training problems.
        validation: number of validation problems.
        test: number of test problems.
        seed: draws other problems; a problem's split does not depend on it.
        largest: greatest given number, 2 to 99.
        target: greatest target, 10 to 9999.
    """
    if not (numbers.isdigit() and 2 <= int(numbers) <= 8):
        raise UsageError(f"countdown-{numbers}: the number of numbers must be 2 to 8, as in countdown-4.")
    if not (2 <= largest <= 99 and 10 <= target <= 9999):
        raise UsageError(f"largest={largest} must be 2 to 99 and target={target} 10 to 9999.")
    k = int(numbers)
    name = (
        f"countdown-{k}?train={train}&validation={validation}&test={test}&seed={seed}"
        f"&largest={largest}&target={target}"
    )

    def items(block: int, n: int) -> list[Item]:
        rng = generator("countdown", k, seed, largest, target, block)
        drawn = [draw_countdown(rng, k, largest=largest, largest_target=target) for _ in range(n)]
        return [Item(prompt, prompt.partition("=")[2].rstrip(":"), steps) for prompt, steps in drawn]

    return ReasoningTask(
        name,
        fill_splits(name, items, {"train": train, "validation": validation, "test": test}),
        form=COUNTDOWN_FORM,
        verifier=verifier("countdown"),
        max_steps=k - 1,
        step_tokens=24,
        solution_tokens=24 * k,
    )
