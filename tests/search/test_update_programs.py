"""The language of update programs: text, kinds, dead lines, hashes, and what published programs compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.search.program_mutation import changed_number, mutate, mutate_until_new
from selfstudy.search.program_running import RunningProgram
from selfstudy.search.update_functions import FUNCTIONS, Leaves
from selfstudy.search.update_programs import (
    ADAMW,
    LION,
    RAW_LION,
    Statement,
    UpdateProgram,
    kinds_of,
    parse_program,
    program_hash,
    pruned,
)

HEAD = "def train(w, g, m, v, lr):\n"


def ran(program: UpdateProgram, gradients: torch.Tensor, rate: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Weights, the last update, m and v after steps on fixed gradients [steps, N], as two tensors."""
    size = gradients.shape[1]
    running = RunningProgram(program, [size - 2, 2])
    w = torch.linspace(-1, 1, size)
    m, v, update = (torch.zeros(size) for _ in range(3))
    for gradient in gradients:
        update, m, v = running(w, gradient, m, v, torch.tensor(rate))
        w = w - update
    return w, update, m, v


def drawn(steps: int, size: int) -> torch.Tensor:
    return torch.tensor(generator("test", "gradients").standard_normal((steps, size)), dtype=torch.float32)


@pytest.mark.parametrize("program", [ADAMW, LION, RAW_LION])
def test_text_and_back(program: UpdateProgram) -> None:
    """Oracle: a program that was written and read is the same program."""
    assert parse_program(str(program)) == program


def test_adamw_without_bias_correction() -> None:
    """Oracle: its equations in numpy, in float64, over 20 steps."""
    gradients = drawn(20, 7)
    w, m, v = np.linspace(-1, 1, 7), np.zeros(7), np.zeros(7)
    for g in gradients.numpy().astype(np.float64):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.001 * (m / (np.sqrt(v) + 1e-8) + 0.01 * w)
    assert np.abs(ran(ADAMW, gradients)[0].numpy() - w).max() < 1e-6


def test_raw_lion_is_lion() -> None:
    """Oracle: the paper's simplification: beta1 = 0.899, beta2 = 1.109 * 0.899, small gradients unclipped."""
    text = str(LION).replace("0.9)", "0.899)").replace("0.99)", "0.996991)").replace("0.1)", "0.4602)")
    short = parse_program(text.replace("0.0001", "0.0002"))
    gradients = 0.01 * drawn(30, 2000)
    signs = [ran(program, gradients)[1].sign() for program in (RAW_LION, short)]
    assert (signs[0] == signs[1]).float().mean() > 0.99
    assert not torch.equal(ran(ADAMW, gradients)[1].sign(), signs[0])


def test_dead_lines_and_dead_memory() -> None:
    """Oracle: in the published program the last line before the update, and m, are never used."""
    kept = pruned(RAW_LION)
    assert "cosh" not in str(kept) and kept.result == ("update", 0.0, "v")
    assert len(kept.statements) == len(RAW_LION.statements) - 1
    gradients = drawn(5, 6)
    assert torch.equal(ran(kept, gradients)[0], ran(RAW_LION, gradients)[0])


def test_memory_that_only_feeds_itself_is_dead() -> None:
    """Oracle: m is read by m alone."""
    program = parse_program(
        HEAD + "  m = interp(g, m, 0.9)\n  update = multiply(g, lr)\n  return update, m, v"
    )
    assert len(pruned(program).statements) == 1 and pruned(program).result == ("update", 0.0, 0.0)


def test_hash_leaves_out_what_does_not_matter() -> None:
    """Oracle: names, order of independent lines, dead lines, sides of a sum; a number does matter."""
    text = HEAD + "  a = sin(g)\n  b = cos(m)\n  update = add(a, b)\n  m = square(g)\n  return update, m, v"
    before = program_hash(parse_program(text))
    same = [
        text.replace("a = ", "q = ").replace("(a,", "(q,"),
        text.replace("  a = sin(g)\n  b = cos(m)\n", "  b = cos(m)\n  a = sin(g)\n"),
        text.replace("  update", "  dead = exp(a)\n  update", 1),
        text.replace("add(a, b)", "add(b, a)"),
    ]
    assert {program_hash(parse_program(other)) for other in same} == {before}
    differ = [
        text.replace("sin", "tan"),
        text.replace("add", "subtract"),
        text.replace("add(a, b)", "add(a, 0.5)"),
        text.replace("add(a, b)", "add(a, 0.25)"),
    ]
    assert len({before, *(program_hash(parse_program(other)) for other in differ)}) == 5
    swapped = text.replace("add(a, b)", "subtract(a, b)"), text.replace("add(a, b)", "subtract(b, a)")
    assert program_hash(parse_program(swapped[0])) != program_hash(parse_program(swapped[1]))


def read_plainly(program: UpdateProgram, gradients: torch.Tensor) -> torch.Tensor:
    """Weights and the last update after steps as those of `ran`, by every line of the text: [2, N]."""
    size = gradients.shape[1]
    of, leaves = torch.tensor([0] * (size - 2) + [1, 1]), Leaves([size - 2, 2])
    w = torch.linspace(-1, 1, size)
    m, v, update = (torch.zeros(size) for _ in range(3))
    for gradient in gradients:
        values = {"w": w, "g": gradient, "m": m, "v": v, "lr": torch.tensor(1.0)}
        for name, function, arguments in program.statements:
            given = [values[a] if isinstance(a, str) else torch.tensor(a) for a in arguments]
            if any(x.shape == (size,) for x in given):
                given = [x[of] if x.shape == (2,) else x for x in given]
            work = FUNCTIONS[function]
            values[name] = work.work(leaves, *given) if work.needs_leaves else work.work(*given)
        update, m, v = (values[str(name)] for name in program.result)
        w = w - update
    return torch.stack([w, update]).nan_to_num()


def mutated(changes: int, *key: object) -> UpdateProgram:
    program = ADAMW
    for step in range(changes):
        program = mutate(program, generator(*key, step))
    return program


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_running_program_is_its_text(seed: int) -> None:
    """Oracle: every line in its order, those too that are left out when it runs."""
    program, gradients = mutated(6, "text", seed), drawn(3, 6)
    found = torch.stack(ran(program, gradients)[:2]).nan_to_num()
    assert torch.equal(found, read_plainly(program, gradients))
    assert program_hash(pruned(program)) == program_hash(program)


def test_equal_hashes_compute_the_same() -> None:
    """Oracle: every line in its order, of mutated programs that share a hash and differ in their text."""
    gradients = drawn(3, 6)
    first = {program_hash(ADAMW): ADAMW}
    twins = 0
    for i in range(200):
        program = mutated(1 + i % 3, "twins", i)
        other = first.setdefault(program_hash(program), program)
        if other != program:
            twins += 1
            assert torch.equal(read_plainly(program, gradients), read_plainly(other, gradients))
    assert twins > 20


def test_mutations_are_valid_and_of_all_sorts() -> None:
    """Oracle: the abstract run says nothing of 1000 children of AdamW; lengths are 9, 10 and 11 lines."""
    children = [mutate(ADAMW, generator("children", i)) for i in range(1000)]
    assert not any(isinstance(kinds_of(child), str) for child in children)
    lengths = [len(child.statements) for child in children]
    assert set(lengths) == {9, 10, 11}
    # Deletions fit less often, as the lines after them may need what is gone.
    assert min(lengths.count(length) for length in (9, 10, 11)) > 150
    for child in children[:50]:
        assert parse_program(str(child)) == child


def test_mutation_ends_at_the_longest_program() -> None:
    """Oracle: a program of the greatest length never grows."""
    assert all(len(mutate(ADAMW, generator("long", i), 10).statements) <= 10 for i in range(200))


def test_until_the_hash_changes() -> None:
    """Oracle: the hashes."""
    for i in range(50):
        child, count = mutate_until_new(ADAMW, generator("new", i))
        assert program_hash(child) != program_hash(ADAMW) and count >= 1


def test_numbers_change_by_powers_of_two() -> None:
    """Oracle: log2 of the ratio is normal: mean 0 and deviation 1 within three standard errors."""
    rng = generator("numbers")
    ratios = np.log2([changed_number(0.3, rng) / 0.3 for _ in range(4000)])
    assert abs(ratios.mean()) < 3 / np.sqrt(4000) and abs(ratios.std() - 1) < 3 / np.sqrt(2 * 4000)
    assert changed_number(9.9e9, generator("large", 3)) <= 1e10


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("  update = sinus(g)\n  return update, m, v", "line 2: there is no function 'sinus'"),
        ("  x = sin(g)\n  update = sin(y)\n  return update, m, v", "line 3: nothing is called 'y'"),
        ("  update = norm(g)\n  return update, m, v", "line 3: update is returned, which is no tensor"),
        ("  x = norm(lr)\n  return g, m, v", "line 2: norm takes a tensor as argument 1"),
        ("  update = sin(g, m)\n  return update, m, v", "line 2: sin takes 1 arguments, not 2"),
        ("  update = g * m\n  return update, m, v", "line 2: a line is name = function"),
        ("  update = sin('g')\n  return update, m, v", "line 2: arguments are names and numbers"),
        ("  update = sin(g)\n  return update", "line 3: a program ends with return"),
        ("  update = sin(g\n  return update, m, v", "line 2"),
        ("  import os\n  return g, m, v", "line 2: a line is name = function"),
    ],
)
def test_what_cannot_be_read(body: str, said: str) -> None:
    """Oracle: the line with the mistake, and what it is."""
    with pytest.raises(UsageError) as error:
        parse_program(HEAD + body)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["", "x = 1", "def train(w, g):\n  return g, g, g", "def a(): pass\nb = 2"])
def test_what_is_no_program(text: str) -> None:
    """Oracle: a program is one function of five inputs."""
    with pytest.raises(UsageError, match="line 1"):
        parse_program(text)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name: str) -> None:
    """Oracle: numpy's function of that name, or the formula, on each of two tensors by itself."""
    x, y = np.array([0.2, 0.5, 0.7, 0.3, 0.9]), np.array([0.4, -0.6, 0.1, 0.8, 0.5])
    parts = slice(0, 3), slice(3, 5)

    def each(work: object) -> np.ndarray:
        return np.concatenate([np.full(len(x[p]), work(x[p], y[p])) for p in parts])  # type: ignore[operator]

    special = {
        "interp": 0.75 * x + 0.25 * y,
        "clip": np.clip(x, -0.5, 0.5),
        "constant": np.full(5, 0.5),
        "neg": -x,
        "sigmoid": 1 / (1 + np.exp(-x)),
        "erf": torch.erf(torch.tensor(x)).numpy(),
        "norm": each(lambda a, b: np.sqrt((a * a).sum())),
        "mean": each(lambda a, b: a.mean()),
        "dot": each(lambda a, b: (a * b).sum()),
        "cosine": each(lambda a, b: (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())),
        "global_norm": np.full(5, np.sqrt((x * x).sum())),
        "clip_by_global_norm": x * 0.5 / np.sqrt((x * x).sum()),
    }
    literal = {"clip": ("g", 0.5), "constant": (0.5,), "interp": ("g", "m", 0.25)}
    literal["clip_by_global_norm"] = ("g", 0.5)
    arguments = literal.get(name, ("g", "m")[: FUNCTIONS[name].arguments])
    line = Statement("x", name, arguments)
    program = UpdateProgram((line, Statement("update", "add", ("x", "w"))))
    given = [torch.tensor(value, dtype=torch.float32) for value in (x, y)]
    g = given[0] + 1 if name == "arccosh" else given[0]
    x = x + 1 if name == "arccosh" else x
    zero = torch.zeros(5)
    found, _, _ = RunningProgram(program, [3, 2])(zero, g, given[1], zero, torch.tensor(1.0))
    with np.errstate(invalid="ignore"):
        wanted = special[name] if name in special else getattr(np, name)(*[x, y][: len(arguments)])
    assert np.allclose(found.numpy(), wanted, atol=1e-6, equal_nan=True)


def test_rates_of_single_tensors() -> None:
    """Oracle: a rate for each tensor moves each by its own."""
    program = parse_program(
        HEAD + "  r = multiply(lr, 2.0)\n  update = multiply(g, r)\n  return update, m, v"
    )
    ones = torch.ones(3)
    found, _, _ = RunningProgram(program, [2, 1])(ones, ones, ones, ones, torch.tensor([1.0, 3.0]))
    assert found.tolist() == [2.0, 2.0, 6.0]
