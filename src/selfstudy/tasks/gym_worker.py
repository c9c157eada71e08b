"""reasoning-gym behind two pipes: one JSON request a line in, one JSON answer a line out.

This file runs as a script under an interpreter that has reasoning-gym and need not have anything else of
ours, so it imports the standard library only. Requests: `{"name", "size", "seed", "config"}` loads problems,
`{"index", "answer"}` scores an answer to one of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from typing import Any


class Problems:
    """Problems of one generator, and the scores of answers to them."""

    def __init__(self, name: str, size: int, seed: int, config: dict[str, str]) -> None:
        """Load problems.

        Raises:
            LookupError: an unknown generator or configuration field, as (what, name, known names).
            ValueError: a configuration that the generator refuses.
        """
        import reasoning_gym
        from reasoning_gym.factory import DATASETS

        if name not in DATASETS:
            raise LookupError("generator", name, sorted(DATASETS))
        known = sorted({f.name for f in dataclasses.fields(DATASETS[name][1])} - {"size", "seed"})
        for field in config:
            if field not in known:
                raise LookupError("field", field, known)
        values = {field: _value(text) for field, text in config.items()}
        try:
            self._items = list(reasoning_gym.create_dataset(name, size=size, seed=seed, **values))
        except (AssertionError, TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        self._source = reasoning_gym.create_dataset(name, size=size, seed=seed, **values)

    def questions(self) -> list[dict[str, Any]]:
        """Return question, answer (or None) and worked solution (or None) of every problem."""
        return [
            {
                "question": item["question"],
                "answer": item["answer"],
                "solution": item["metadata"].get("answer_cot"),
            }
            for item in self._items
        ]

    def score(self, index: int, answer: str) -> float:
        """Return the generator's own score of an answer, 0 to 1."""
        return float(self._source.score_answer(answer, entry=self._items[index]))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False}.get(text, text)


def _answer(request: dict[str, Any], held: list[Problems]) -> dict[str, Any]:
    try:
        if "name" in request:
            held[:] = [Problems(request["name"], request["size"], request["seed"], request["config"])]
            return {"questions": held[0].questions()}
        return {"score": held[0].score(request["index"], request["answer"])}
    except LookupError as error:
        if len(error.args) == 3:
            return {"unknown": error.args}
        return {"raised": traceback.format_exc()}
    except ValueError as error:
        return {"refused": str(error)} if "name" in request else {"raised": traceback.format_exc()}
    except Exception:
        return {"raised": traceback.format_exc()}


def main() -> None:
    """Serve until the input ends."""
    # Generators may print; the pipe is for answers alone.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    held: list[Problems] = []
    for line in sys.stdin:
        pipe.write(json.dumps(_answer(json.loads(line), held)) + "\n")
        pipe.flush()


if __name__ == "__main__":
    main()
