"""The process behind `peers.Peer`: an order a line comes in, an answer a line goes out.

It runs over this package and over the foundation's, so the works use only what both have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemma_shape
import gemma_works
import tiny_works
import transformers

import selfstudy
from selfstudy.core.machine import set_threads


def where() -> dict[str, Any]:
    return {"source": str(Path(selfstudy.__file__).resolve().parents[1])}


WORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "where": where,
    "record": tiny_works.record,
    "record_prompts": tiny_works.record_prompts,
    "search": tiny_works.search,
    "replay": tiny_works.replay,
    "generate": tiny_works.generate,
    "partings": tiny_works.tiny_partings,
    "score": tiny_works.score,
    "peak": tiny_works.peak,
    "profile": tiny_works.profile,
    "gemma_shape": gemma_shape.gemma_shape,
    "gemma_ours": gemma_works.gemma_ours,
    "gemma_generate": gemma_works.gemma_generate,
    "gemma_partings": gemma_works.gemma_partings,
}


def main() -> None:
    set_threads()
    transformers.utils.logging.set_verbosity_error()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed must not come between
    for line in sys.stdin:
        work, arguments = json.loads(line)
        answers.write(json.dumps(WORKS[work](**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
