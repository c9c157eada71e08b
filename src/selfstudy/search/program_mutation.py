"""Random changes of update programs that keep them valid (Chen et al. 2023, section 2)."""

from __future__ import annotations

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.search.update_functions import FUNCTIONS
from selfstudy.search.update_programs import (
    INPUTS,
    Argument,
    Statement,
    UpdateProgram,
    kinds_after,
    kinds_of,
    program_hash,
)

LARGEST = 1e10  # size of a number
TRIES = 1000  # changes that are tried before a program is given up
NAMES = tuple(INPUTS)


def mutate(program: UpdateProgram, rng: np.random.Generator, longest: int = 30) -> UpdateProgram:
    """Return a program with a line more, a line fewer, or one argument changed; it is valid.

    A change that does not fit (it is run on kinds alone) is thrown away, and another one drawn.

    Args:
        program: stays as it is.
        rng: draws the change.
        longest: lines that a program may have.

    Raises:
        UsageError: no change that fits is found.
    """
    for _ in range(TRIES):
        kinds = ["delete", "modify"] if program.statements else []
        kinds += ["insert"] if len(program.statements) < longest else []
        changed = CHANGES[kinds[int(rng.integers(len(kinds)))]](program, rng)
        if not isinstance(kinds_of(changed), str):
            return changed
    raise UsageError(f"No change of this program gives a valid one:\n{program}")


def mutate_until_new(
    program: UpdateProgram, rng: np.random.Generator, longest: int = 30
) -> tuple[UpdateProgram, int]:
    """Return a mutated program that computes something else, and how many mutations that took."""
    before = program_hash(program)
    changed = program
    for count in range(1, TRIES + 1):
        changed = mutate(changed, rng, longest)
        if program_hash(changed) != before:
            return changed, count
    raise UsageError(f"{TRIES} changes of this program leave it as it is:\n{program}")


def _insert(program: UpdateProgram, rng: np.random.Generator) -> UpdateProgram:
    at = int(rng.integers(len(program.statements) + 1))
    names = _in_scope(program, at)
    function = _one(tuple(FUNCTIONS), rng)
    arguments = tuple(_drawn(names, rng) for _ in range(FUNCTIONS[function].arguments))
    fresh = f"x{len(program.statements) + 1}"
    name = _one((*names, fresh), rng)
    added = Statement(name, function, arguments)
    return program._replace(statements=(*program.statements[:at], added, *program.statements[at:]))


def _delete(program: UpdateProgram, rng: np.random.Generator) -> UpdateProgram:
    at = int(rng.integers(len(program.statements)))
    return program._replace(statements=program.statements[:at] + program.statements[at + 1 :])


def _modify(program: UpdateProgram, rng: np.random.Generator) -> UpdateProgram:
    at = int(rng.integers(len(program.statements)))
    statement = program.statements[at]
    place = int(rng.integers(len(statement.arguments)))
    before = statement.arguments[place]
    after = changed_number(before, rng) if isinstance(before, float) else _other(program, at, before, rng)
    arguments = (*statement.arguments[:place], after, *statement.arguments[place + 1 :])
    changed = statement._replace(arguments=arguments)
    return program._replace(statements=(*program.statements[:at], changed, *program.statements[at + 1 :]))


CHANGES = {"insert": _insert, "delete": _delete, "modify": _modify}


def changed_number(number: float, rng: np.random.Generator) -> float:
    """Return a number times 2^z, z from the normal distribution, of at most `LARGEST` in size."""
    return float(np.clip(number * 2.0 ** rng.standard_normal(), -LARGEST, LARGEST))


def _other(program: UpdateProgram, at: int, name: str, rng: np.random.Generator) -> str:
    """Return another name of the same kind that can be used at a line, or this one if there is none."""
    kinds = kinds_after(program.statements[:at])
    if isinstance(kinds, str):
        raise UsageError(f"The update program is not valid: {kinds}.")
    same = tuple(other for other, kind in kinds.items() if kind == kinds[name] and other != name)
    return _one(same, rng) if same else name


def _drawn(names: tuple[str, ...], rng: np.random.Generator) -> Argument:
    place = int(rng.integers(len(names) + 1))
    return names[place] if place < len(names) else float(rng.standard_normal())


def _in_scope(program: UpdateProgram, at: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*NAMES, *(statement.name for statement in program.statements[:at])]))


def _one(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
