"""Imports point one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import selfstudy

SOURCE = Path(selfstudy.__file__).parent
# A room may import itself and every room before it.
ROOMS = ("core", "data", "models", "signals", "search", "learning", "evaluation", "tasks", "methods", "app")
FILES = sorted(path for room in ROOMS for path in (SOURCE / room).rglob("*.py"))
TYPES_ONLY = "TYPE_CHECKING"  # what is only named in annotations makes no dependency


def imported(tree: ast.AST) -> set[str]:
    """Return all modules imported anywhere but under `if TYPE_CHECKING`."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == TYPES_ONLY:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= imported(node)
    return found


def backwards(room: str, modules: set[str]) -> set[str]:
    """Return the modules that a file in `room` must not import."""
    allowed = ROOMS[: ROOMS.index(room) + 1]
    ours = {name for name in modules if name.startswith("selfstudy.")}
    return {name for name in ours if name.split(".")[1] in ROOMS and name.split(".")[1] not in allowed}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    """Oracle: the order of rooms in the design, over the syntax tree."""
    room = path.relative_to(SOURCE).parts[0]
    assert backwards(room, imported(ast.parse(path.read_text()))) == set()


def test_a_backward_import_is_found() -> None:
    """Oracle: three made-up lines, one of each kind."""
    text = "def f():\n    from selfstudy.methods.reasoning import x\n"
    assert backwards("search", imported(ast.parse(text))) == {"selfstudy.methods.reasoning.x"}
    guarded = "if TYPE_CHECKING:\n    from selfstudy.tasks.reasoning import Problem\n"
    assert backwards("search", imported(ast.parse(guarded))) == set()
    assert backwards("app", imported(ast.parse(text))) == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Oracle: the interpreter's own table of modules."""
    code = (
        "import selfstudy, selfstudy.app.cli, selfstudy.core.index, sys;"
        "print(sorted({'torch', 'transformers', 'tyro', 'plotly', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
