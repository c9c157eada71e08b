"""Rules that update weights, as short programs in a small language (Chen et al. 2023, section 2).

    def train(w, g, m, v, lr):
        m = interp(g, m, 0.9)
        u = sign(m)
        update = multiply(u, lr)
        return update, m, v

takes weights, their gradient, two tensors that it remembers from step to step (0 at first) and the learning
rate; the weights then move by minus `update`. Each line is a function of `FUNCTIONS` on names and numbers.
The text is that of a Python function, and is never run as one.
"""

from __future__ import annotations

import ast
import hashlib
from typing import NamedTuple

from selfstudy.core.errors import UsageError, nearest
from selfstudy.search.update_functions import FUNCTIONS, Kind, kind_of

INPUTS: dict[str, Kind] = {"w": "tensor", "g": "tensor", "m": "tensor", "v": "tensor", "lr": "scalar"}
STATE = ("m", "v")
UNUSED = 0.0  # in the place of what is remembered, where nothing is

Argument = str | float
"""A name or a number."""


class Statement(NamedTuple):
    """`name = function(*arguments)`."""

    name: str
    function: str
    arguments: tuple[Argument, ...]

    def __str__(self) -> str:
        return f"{self.name} = {self.function}({', '.join(map(str, self.arguments))})"


class UpdateProgram(NamedTuple):
    """Statements in order, and what is returned: the update, and m and v of the next step.

    m or v may be returned as `UNUSED`, the number 0, where the program does not remember it.
    """

    statements: tuple[Statement, ...]
    result: tuple[Argument, Argument, Argument] = ("update", "m", "v")

    def __str__(self) -> str:
        lines = [f"    {statement}" for statement in self.statements]
        returned = f"    return {', '.join(map(str, self.result))}"
        return "\n".join(["def train(w, g, m, v, lr):", *lines, returned])


def kinds_of(program: UpdateProgram) -> dict[str, Kind] | str:
    """Run a program on kinds alone; return the kind of each name in the end, or what is wrong."""
    kinds = kinds_after(program.statements)
    if isinstance(kinds, str):
        return kinds
    for place, value in enumerate(program.result):
        if not (place and value == UNUSED) and kinds.get(str(value)) != "tensor":
            return f"line {len(program.statements) + 2}: {value} is returned, which is no tensor"
    return kinds


def kinds_after(statements: tuple[Statement, ...]) -> dict[str, Kind] | str:
    """Return the kind of each name after these lines, or what is wrong with the first that does not fit."""
    kinds = dict(INPUTS)
    for line, (name, function, arguments) in enumerate(statements, start=2):
        unknown = [value for value in arguments if isinstance(value, str) and value not in kinds]
        if unknown:
            return f"line {line}: nothing is called {unknown[0]!r} yet. {nearest(unknown[0], kinds)}"
        found = kind_of(function, [kinds[v] if isinstance(v, str) else "scalar" for v in arguments])
        if found not in ("tensor", "scalar"):
            return f"line {line}: {found}"
        kinds[name] = found  # type: ignore[assignment]
    return kinds


def parse_program(text: str) -> UpdateProgram:
    """Return the program that a text writes down.

    >>> print(parse_program('''def train(w, g, m, v, lr):
    ...     update = multiply(g, lr)
    ...     return update, m, v'''))
    def train(w, g, m, v, lr):
        update = multiply(g, lr)
        return update, m, v

    Raises:
        UsageError: what cannot be read, with its line.
    """
    try:
        (function,) = ast.parse(text.strip()).body
    except SyntaxError as error:
        raise _unreadable(error.lineno or 1, error.msg) from None
    except ValueError:
        raise _unreadable(1, "a program is one function") from None
    if not isinstance(function, ast.FunctionDef) or [a.arg for a in function.args.args] != list(INPUTS):
        raise _unreadable(1, f"a program begins with def train({', '.join(INPUTS)}):")
    *body, last = function.body
    if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple) and len(last.value.elts) == 3):
        raise _unreadable(last.lineno, "a program ends with return update, m, v")
    first, second, third = (_argument(value) for value in last.value.elts)
    program = UpdateProgram(tuple(map(_statement, body)), (first, second, third))
    kinds = kinds_of(program)
    if isinstance(kinds, str):
        raise UsageError(f"The update program cannot be read: {kinds}.")
    return program


def _statement(node: ast.stmt) -> Statement:
    if (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
    ):
        name = node.value.func.id
        if name not in FUNCTIONS:
            raise _unreadable(node.lineno, f"there is no function {name!r}. {nearest(name, FUNCTIONS)}")
        return Statement(node.targets[0].id, name, tuple(_argument(value) for value in node.value.args))
    raise _unreadable(node.lineno, "a line is name = function(names or numbers)")


def _argument(node: ast.expr) -> Argument:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    value = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    if isinstance(value, ast.Name) and not negative:
        return value.id
    if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
        return -float(value.value) if negative else float(value.value)
    raise _unreadable(node.lineno, "arguments are names and numbers")


def _unreadable(line: int, why: str) -> UsageError:
    return UsageError(f"The update program cannot be read: line {line}: {why.rstrip('.')}.")


def pruned(program: UpdateProgram) -> UpdateProgram:
    """Return the program without the lines, and without the memory, that no update ever depends on.

    >>> print(pruned(parse_program('''def train(w, g, m, v, lr):
    ...     update = multiply(g, lr)
    ...     m = cosh(update)
    ...     return update, m, v''')))
    def train(w, g, m, v, lr):
        update = multiply(g, lr)
        return update, 0.0, 0.0
    """
    needed: set[str] = set()
    while True:
        result = [value for value, name in zip(program.result[1:], STATE, strict=True) if name in needed]
        kept, now = _needed(program.statements, {program.result[0], *result})
        if now & set(STATE) == needed:
            break
        needed = now & set(STATE)
    m, v = (
        value if name in needed else UNUSED for value, name in zip(program.result[1:], STATE, strict=True)
    )
    return UpdateProgram(kept, (program.result[0], m, v))


def _needed(
    statements: tuple[Statement, ...], wanted: set[Argument]
) -> tuple[tuple[Statement, ...], set[str]]:
    """Return the statements that `wanted` depends on, and the inputs."""
    kept: list[Statement] = []
    names = {value for value in wanted if isinstance(value, str)}
    for statement in reversed(statements):
        if statement.name in names:
            names.discard(statement.name)
            names |= {value for value in statement.arguments if isinstance(value, str)}
            kept.append(statement)
    return tuple(reversed(kept)), names


def program_hash(program: UpdateProgram) -> str:
    """Return what a program computes as a word: names, dead lines and the order of lines leave no trace.

    Arguments whose order does not matter are sorted. Two programs of one hash do the same; two that do the
    same by algebra may differ.
    """
    program = pruned(program)
    values = {name: _digest("input", name) for name in INPUTS}

    def value(argument: Argument) -> str:
        return values[argument] if isinstance(argument, str) else _digest("number", repr(argument))

    for name, function, arguments in program.statements:
        found = [value(argument) for argument in arguments]
        values[name] = _digest(function, *(sorted(found) if FUNCTIONS[function].commutes else found))
    return _digest("result", *map(value, program.result))


def _digest(*words: str) -> str:
    return hashlib.blake2b("\x1f".join(words).encode(), digest_size=8).hexdigest()


# AdamW without its bias corrections, whose rate and decay are numbers of the program; `lr` is the share of
# the peak that a schedule gives.
ADAMW = parse_program(
    """def train(w, g, m, v, lr):
    m = interp(g, m, 0.9)
    g2 = square(g)
    v = interp(g2, v, 0.999)
    root = sqrt(v)
    root = add(root, 1e-8)
    update = divide(m, root)
    decay = multiply(w, 0.01)
    update = add(update, decay)
    rate = multiply(lr, 0.001)
    update = multiply(update, rate)
    return update, m, v"""
)
# The paper's program as it was found (Program 8), and what it comes to, with m in the place of its v.
RAW_LION = parse_program(
    """def train(w, g, m, v, lr):
    g = clip(g, lr)
    g = arctan(g)
    m = interp(g, v, 0.899)
    m2 = multiply(m, m)
    v = interp(g, m, 1.109)
    size = sqrt(m2)
    update = divide(m, size)
    decay = multiply(w, 0.4602)
    update = add(update, decay)
    lr = multiply(lr, 0.0002)
    m = cosh(update)
    update = multiply(update, lr)
    return update, m, v"""
)
LION = parse_program(
    """def train(w, g, m, v, lr):
    u = interp(g, m, 0.9)
    u = sign(u)
    m = interp(g, m, 0.99)
    decay = multiply(w, 0.1)
    update = add(u, decay)
    rate = multiply(lr, 0.0001)
    update = multiply(update, rate)
    return update, m, v"""
)
KNOWN = {"adamw": ADAMW, "lion": LION}
