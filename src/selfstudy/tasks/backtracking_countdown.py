"""backtracking-countdown-k: reach a target from k numbers, in one solution that may go back and try again."""

from __future__ import annotations

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.shown_countdown import complete, draw_shown, stated
from selfstudy.data.walks import SYMBOLS
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.chain import fill_splits
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask

BACKTRACKING_FORM = SolutionForm(ended=complete, answer=stated, returns=SYMBOLS)
LINE_CHARACTERS = 16  # of a step of four numbers with its line break


def backtracking_countdown(
    numbers: str,
    *,
    train: int = 2000,
    validation: int = 200,
    test: int = 500,
    seed: int = 0,
    largest: int = 13,
    length: int = 160,
) -> ReasoningTask:
    """Make a countdown task whose solutions show the numbers at hand and may go back.

    Args:
        numbers: how many numbers, 3 to 6.
        train: number of training problems.
        validation: number of validation problems.
        test: number of test problems.
        seed: draws other problems; a problem's split does not depend on it.
        largest: greatest given number, 2 to 99.
        length: most characters of a solution, all its branches together.
    """
    if not (numbers.isdigit() and 3 <= int(numbers) <= 6):
        raise UsageError(
            f"backtracking-countdown-{numbers}: the number of numbers must be 3 to 6, as in "
            "backtracking-countdown-4."
        )
    k = int(numbers)
    step = LINE_CHARACTERS + 3 * max(0, k - 4)
    if not 2 <= largest <= 99 or length < step * (k - 1):
        raise UsageError(
            f"largest={largest} must be 2 to 99, and length={length} at least {step * (k - 1)}, for one "
            "branch."
        )
    name = (
        f"backtracking-countdown-{k}?train={train}&validation={validation}&test={test}&seed={seed}"
        f"&largest={largest}&length={length}"
    )

    def items(block: int, n: int) -> list[Item]:
        rng = generator("backtracking-countdown", k, seed, largest, block)
        drawn = [draw_shown(rng, k, largest=largest) for _ in range(n)]
        return [Item(prompt, prompt.partition("=")[2].rstrip(":"), steps) for prompt, steps in drawn]

    return ReasoningTask(
        name,
        fill_splits(name, items, {"train": train, "validation": validation, "test": test}),
        form=BACKTRACKING_FORM,
        verifier=verifier("shown-countdown"),
        max_steps=k - 1,
        step_tokens=step + 4,
        solution_tokens=length,
    )
