"""Code judged by tests: the tests of a problem, the code in an answer, and the share that it passes."""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from selfstudy.signals.sandbox import Program, judge, names_under_test

FENCE = "```"
_BLOCK = re.compile(r"^```([A-Za-z]*)[ \t]*\n?(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTests:
    """The tests of a problem. As the gold answer of a problem they are JSON text."""

    tests: tuple[str, ...]
    """Python sources; each passes when it raises nothing."""
    names: tuple[str, ...]
    """What they use from the judged code."""
    setup: str = ""
    """Runs before each test, apart from the judged code."""
    head: str = ""
    """Code that the question gives, and that an answer may go on from."""

    def to_text(self) -> str:
        """Return these tests as a gold answer."""
        return json.dumps(asdict(self), separators=(",", ":"))


def read_tests(gold: str) -> CodeTests:
    r"""Read tests: JSON of `CodeTests`, a JSON list of sources, or one source.

    A source of nothing but asserts is as many tests; any other is one.

    >>> read_tests("assert f(1) == 2\nassert abs(f(2)) == 3").names
    ('f',)

    Raises:
        SyntaxError: a test is no Python.
        ValueError: there are no tests, or they use nothing that is judged.
    """
    held = _json(gold)
    if isinstance(held, dict):
        found = CodeTests(**{**held, "tests": tuple(held["tests"]), "names": tuple(held["names"])})
    else:
        found = code_tests(held if isinstance(held, list) else [gold])
    if not found.tests or not found.names:
        raise ValueError("tests that use nothing of the judged code")
    return found


def code_tests(sources: Sequence[str], *, setup: str = "", head: str = "", reference: str = "") -> CodeTests:
    """Return sources as tests, with the names that they use from the judged code.

    These are what a right program, `reference`, defines and they use; without one, all that they use and
    neither Python nor `setup` defines.

    Raises:
        SyntaxError: a source is no Python.
    """
    tests = tuple(test for source in sources for test in _apart(source))
    if reference:
        names = names_under_test(f"{head}{reference}", tests, setup)
    else:
        used = (_free(ast.parse(f"{setup}\n{test}")) for test in tests)
        names = tuple(sorted({name for some in used for name in some}))
    return CodeTests(tests=tests, names=names, setup=setup, head=head)


def code_of(answer: str, tests: CodeTests) -> str:
    r"""Return the code in an answer: its first fenced block, or all of it up to a fence.

    Code that does not define what is judged is taken to go on from the question's.

    >>> code_of("Here it is:\n```python\ndef f(x):\n    return x\n```\n", read_tests("assert f(1) == 1"))
    'def f(x):\n    return x\n'
    """
    block = _BLOCK.search(answer)
    before = answer[: block.start()] if block else answer
    # A fence without a language after code closes it.
    closes = block is not None and not block[1] and before.strip() and _is_python(tests.head + before)
    code = block[2] if block and not closes else before.rstrip("\n")
    defined = r"^(?:(?:async +)?def|class) +{}\b|^{}\b *="
    if not tests.head or not all(re.search(defined.format(n, n), code, re.M) for n in tests.names):
        return tests.head + code
    imports = [line for line in tests.head.split("\n") if re.match(r"(?:import|from) ", line)]
    return "\n".join([*imports, code])


def grade_code(many: Sequence[tuple[str, str, str]]) -> list[float]:
    """Return the share of tests that the code in each (question, tests, answer) passes, in the sandbox."""
    asked = []
    for _, gold, answer in many:
        tests = read_tests(gold)
        asked.append(
            Program(code=code_of(answer, tests), tests=tests.tests, names=tests.names, setup=tests.setup)
        )
    distinct = list(dict.fromkeys(asked))
    shares = dict(zip(distinct, (verdict.share for verdict in judge(distinct)), strict=True))
    return [shares[program] for program in asked]


def usable_tests(gold: str) -> bool:
    """Tell whether a gold answer is tests that can be run."""
    try:
        read_tests(gold)
    except (SyntaxError, ValueError, TypeError, KeyError):
        return False
    return True


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two of deep nesting
        return False
    return True


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _apart(source: str) -> list[str]:
    statements = ast.parse(source).body
    if not all(isinstance(statement, ast.Assert) for statement in statements):
        return [source]
    return [ast.get_source_segment(source, statement) or "" for statement in statements]


def _free(tree: ast.AST) -> set[str]:
    """Return the names that are read and that neither the source nor Python defines."""
    used: set[str] = set()
    bound = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return used - bound
