"""Which names tests use from the code that they test."""

from __future__ import annotations

import ast
from collections.abc import Sequence


def names_under_test(reference: str, tests: Sequence[str], setup: str = "") -> tuple[str, ...]:
    r"""Return the names that a reference defines and tests read, sorted: what other code is to define.

    Names that the reference imports, or that the setup defines, are left out: judged code that could put its
    own in their place would be judged by it.

    >>> reference = "from math import isclose, pi\ndef area(r): return pi * r * r"
    >>> names_under_test(reference, ["assert isclose(area(1), 3.14, abs_tol=0.01)"])
    ('area',)

    Args:
        reference: Python source that passes the tests.
        tests: Python sources.
        setup: Python source that is run before each test.

    Raises:
        SyntaxError: one of them is no Python.
    """
    read = {
        node.id
        for test in (*tests, setup)
        for node in ast.walk(ast.parse(test))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return tuple(sorted(read & _defined(reference) - _defined(setup)))


def _defined(source: str) -> set[str]:
    """Return what a module defines at its top level by `def`, `class` or `=`."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return found
