"""Products of matrices inside compiled loops, float32, on one thread of a processor.

torch's products are called from Python, write to fresh memory, which costs a page fault for every 4 KB, and
on some processors leave half of the speed unused. These are called from compiled code, and write where they
are told. A matrix that is multiplied with is arranged in panels first: COLUMNS of its columns, row after row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from selfstudy.models.language.kernels import LINE, compiled, intrinsic

_MANY_REGISTERS = bool(llvm.get_host_cpu_features().get("avx512f"))
# Of a tile, whose sums stay in registers.
ROWS, LINES = (8, 2) if _MANY_REGISTERS else (4, 1)
COLUMNS = LINES * LINE
DEPTH = 192  # numbers of each column whose panel stays in the nearest cache
_F = np.float32


def tile_of(rows: int, lines: int) -> Any:
    """Return a function for compiled code: a product of `rows` x `lines` * LINE numbers.

    Its arguments, where places and steps are counted in the order of memory:
        a, at, a_row, a_depth: number k of row r of the first matrix is at + r a_row + k a_depth.
        b, b_at, b_depth: row k of the second begins at b_at + k b_depth.
        out, out_at, out_row: row r of the product begins at out_at + r out_row.
        depth: how many k there are.
        add: whether the product is added to what is there.
    """

    def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a, at, a_row, a_depth, b, b_at, b_depth, out, out_at, out_row, depth, add = given
        line, number = ir.VectorType(ir.FloatType(), LINE), at.type

        def beyond(start: Any, count: Any, step: Any = None) -> Any:
            count = count if isinstance(count, ir.Value) else ir.Constant(number, count)
            return builder.gep(start, [count if step is None else builder.mul(count, step)])

        def first(place: int, array: Any, offset: Any) -> Any:
            return beyond(context.make_array(signature.args[place])(context, builder, array).data, offset)

        def lines_at(start: Any) -> list[Any]:
            return [builder.bitcast(beyond(start, i * LINE), line.as_pointer()) for i in range(lines)]

        a, b, out = first(0, a, at), first(4, b, b_at), first(7, out, out_at)
        sums = [[cgutils.alloca_once(builder, line) for _ in range(lines)] for _ in range(rows)]
        places = [lines_at(beyond(out, r, out_row)) for r in range(rows)]
        each = [(sums[r][i], places[r][i]) for r in range(rows) for i in range(lines)]
        with builder.if_else(add) as (adding, writing):
            with adding:
                for total, place in each:
                    builder.store(builder.load(place, align=4), total)
            with writing:
                for total, _ in each:
                    builder.store(ir.Constant(line, [0.0] * LINE), total)
        undefined, all_the_first = ir.Constant(line, ir.Undefined), [0] * LINE
        with cgutils.for_range(builder, depth, intp=number) as loop:
            columns = [builder.load(place, align=4) for place in lines_at(beyond(b, loop.index, b_depth))]
            start = beyond(a, loop.index, a_depth)
            for r in range(rows):
                one = builder.load(beyond(start, r, a_row))
                one = builder.insert_element(undefined, one, ir.Constant(ir.IntType(32), 0))
                pattern = ir.Constant(ir.VectorType(ir.IntType(32), LINE), all_the_first)
                same = builder.shuffle_vector(one, undefined, pattern)
                for total, column in zip(sums[r], columns, strict=True):
                    product = builder.fmul(same, column, flags=("contract",))
                    product = builder.fadd(builder.load(total), product, flags=("contract",))
                    builder.store(product, total)
        for total, place in each:
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    i = types.intp

    def tile(typing, a, at, a_row, a_depth, b, b_at, b_depth, out, out_at, out_row, depth, add):
        return types.void(a, i, i, i, b, i, i, out, i, i, i, types.boolean), written

    made: Callable[..., Any] = intrinsic(tile)
    return made


_tile, _row = tile_of(ROWS, LINES), tile_of(1, LINES)


@compiled
def arrange(matrix, panels):
    """Arrange a matrix [K, C] in panels [P, K, COLUMNS], with zeros beyond its columns."""
    depth, width = matrix.shape
    for p in range(len(panels)):
        first, last = p * COLUMNS, min(width, (p + 1) * COLUMNS)
        for k in range(depth):
            panel = panels[p, k]
            if last - first == COLUMNS:
                for i in range(COLUMNS):
                    panel[i] = matrix[k, first + i]
            else:
                for i in range(COLUMNS):
                    panel[i] = matrix[k, first + i] if first + i < width else _F(0.0)


@compiled
def arrange_turned(matrix, panels):
    """Arrange the columns of a matrix [C, K] as `arrange` does rows."""
    width, depth = matrix.shape
    for p in range(len(panels)):
        for i in range(COLUMNS):
            c = p * COLUMNS + i
            if c < width:
                for k in range(depth):
                    panels[p, k, i] = matrix[c, k]
            else:
                for k in range(depth):
                    panels[p, k, i] = _F(0.0)


@compiled
def multiply(rows, panels, out, add):
    """Write or add rows [N, K or more] times panels [P, K, COLUMNS] to `out` [N, P COLUMNS or more]."""
    _multiply(rows, len(rows), rows.shape[1], 1, panels, out, add)


@compiled
def multiply_turned(rows, panels, out, add):
    """Write or add the transpose of rows [K, N] times panels, as `multiply` does."""
    _multiply(rows, rows.shape[1], 1, rows.shape[1], panels, out, add)


@compiled
def _multiply(a, count, a_row, a_depth, panels, out, add):
    depth, stride = panels.shape[1], out.shape[1]
    for k in range(0, depth, DEPTH):
        more = add or k > 0
        few = min(DEPTH, depth - k)
        for p in range(len(panels)):
            at = (p * depth + k) * COLUMNS
            whole = count // ROWS * ROWS
            for n in range(0, whole, ROWS):
                of_a, of_out = n * a_row + k * a_depth, n * stride + p * COLUMNS
                _tile(a, of_a, a_row, a_depth, panels, at, COLUMNS, out, of_out, stride, few, more)
            for n in range(whole, count):
                of_a, of_out = n * a_row + k * a_depth, n * stride + p * COLUMNS
                _row(a, of_a, a_row, a_depth, panels, at, COLUMNS, out, of_out, stride, few, more)
