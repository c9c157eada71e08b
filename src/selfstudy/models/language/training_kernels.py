"""The compiled loops of `training_pass`: what lies between two products of matrices, and its gradients.

Arrays are NumPy's, by rows, float32 unless it says otherwise. The compiler's cache does not notice a change
in `kernels` or `product_kernels`, of which functions are used here: after one, touch this file.
"""

from __future__ import annotations

import numpy as np

from selfstudy.models.language.kernels import LINE, compiled, exp, largest
from selfstudy.models.language.product_kernels import ROWS, tile_of

QUERIES = 64  # of one text that are looked at together
_F = np.float32


@compiled
def normed_back(state, weight, eps, given, out, of_weight):
    """Add the gradient of `normed`.

    Args:
        state: [N, H] what was normalised.
        weight: [H].
        eps: of the norm.
        given: [N, H] gradient of the normalised rows.
        out: [N, H]; that of the state is added.
        of_weight: [H]; that of the weight is added.
    """
    for n in range(len(state)):
        row, back, to = state[n], given[n], out[n]
        squares, along = _F(0.0), _F(0.0)
        for i in range(len(row)):
            squares += row[i] * row[i]
            along += back[i] * weight[i] * row[i]
        inverse = _F(1.0) / np.sqrt(squares / _F(len(row)) + eps)
        share = along * inverse * inverse * inverse / _F(len(row))
        for i in range(len(row)):
            to[i] += back[i] * weight[i] * inverse - row[i] * share
            of_weight[i] += back[i] * row[i] * inverse


@compiled
def gated_back(gate_up, linear, cubic, given, out):
    """Write the gradient of `gated`: `given` [N, I] is that of what it returned, `out` [N, 2 I]."""
    width = given.shape[1]
    for n in range(len(out)):
        gate, up, back = gate_up[n, :width], gate_up[n, width:], given[n]
        of_gate, of_up = out[n, :width], out[n, width:]
        for i in range(width):
            x = gate[i]
            y = x * (linear + cubic * x * x)
            small = exp(-abs(y))
            share = _F(1.0) / (_F(1.0) + small)
            share = share if y >= 0 else small * share
            slope = share + x * share * (_F(1.0) - share) * (linear + _F(3.0) * cubic * x * x)
            of_gate[i] = back[i] * up[i] * slope
            of_up[i] = back[i] * x * share


@compiled
def add_rows(rows, places, out):
    """Add row n of `rows` [N, H] to row places[n] (int64) of `out`."""
    for n in range(len(rows)):
        row, to = rows[n], out[places[n]]
        for i in range(len(row)):
            to[i] += row[i]


_tile = tile_of(ROWS, 1)


@compiled
def _scores(queries, turned, before, begin, count, depth, out):
    """Write the products of `count` queries, number `begin` of their text on, and the keys that they see.

    Args:
        queries: [Q, D].
        turned: [D, W] keys.
        before: tokens before the text.
        begin: see above.
        count: of queries.
        depth: D.
        out: [Q, W].
    """
    size = turned.shape[1]
    for q in range(0, count, ROWS):
        for k in range(0, min(size, before + begin + q + ROWS), LINE):
            of_a, row = q * queries.shape[1], queries.shape[1]
            _tile(queries, of_a, row, 1, turned, k, size, out, q * size + k, size, depth, False)


@compiled
def _taken(weights, rows, before, begin, count, out):
    """Write for `count` queries the rows that they see [W, D], by weights [Q, W], to `out` [Q, D]."""
    size, width = rows.shape
    for q in range(0, count, ROWS):
        seen = min(size, before + begin + q + ROWS)
        for k in range(0, width, LINE):
            _tile(weights, q * size, size, 1, rows, k, width, out, q * width + k, width, seen, False)


@compiled
def _given_back(weights, rows, before, begin, count, out):
    """Add rows [Q, D] of `count` queries to what these see, `out` [W, D], by weights [Q, W]."""
    size, width = out.shape
    for w in range(0, min(size, before + begin + count), ROWS):
        first = max(0, w - before - begin) // ROWS * ROWS
        for k in range(0, width, LINE):
            of_a, of_rows = first * size + w, first * width + k
            _tile(
                weights, of_a, 1, size, rows, of_rows, width, out, w * width + k, width, count - first, True
            )


@compiled
def _copy(mixed, head, first, end, at, rows):
    """Copy a head of tokens from `first` to `end` to rows from `at` on."""
    for t in range(first, end):
        for i in range(mixed.shape[2]):
            rows[at + t - first, i] = mixed[t, head, i]


@compiled
def _gather(mixed, head, text, rows):
    """Copy a head of what a text sees, the tokens before it and its own, to rows."""
    _copy(mixed, head, text[0], text[1], 0, rows)
    _copy(mixed, head, text[2], text[3], text[1] - text[0], rows)


@compiled
def _turned(rows, count, out):
    """Write `count` rows as columns."""
    for t in range(count):
        for i in range(rows.shape[1]):
            out[i, t] = rows[t, i]


@compiled
def _add_copy(rows, at, first, end, head, out):
    """Add rows from `at` on to a head of tokens from `first` to `end`."""
    for t in range(first, end):
        for i in range(out.shape[2]):
            out[t, head, i] += rows[at + t - first, i]


@compiled
def _scatter(rows, text, head, out):
    """Add rows to a head of what a text sees: the reverse of `_gather`."""
    _add_copy(rows, 0, text[0], text[1], head, out)
    _add_copy(rows, text[1] - text[0], text[2], text[3], head, out)


def _up(count, step):
    return -(-count // step) * step


_up = compiled(_up)


@compiled
def attend(mixed, texts, heads, scaling, out, logs):
    """Let each token look at the tokens before its text, at those of it so far, and at itself.

    Args:
        mixed: [N, heads + 2 key heads, D] queries, keys and values.
        texts: int64 [S, 4]: from where to where the tokens before a text lie, which all of it sees, and from
            where to where its own.
        heads: of the queries, a multiple of the key heads.
        scaling: of the products of queries and keys.
        out: [N, heads, D].
        logs: [N, heads] logarithms of the sums of the exponentials of the products.
    """
    width, key_heads = mixed.shape[2], (mixed.shape[1] - heads) // 2
    longest = (texts[:, 1] - texts[:, 0] + texts[:, 3] - texts[:, 2]).max()
    size, wide = _up(longest, LINE), _up(width, LINE)
    keys, values = np.zeros((size, wide), np.float32), np.zeros((size, wide), np.float32)
    turned, weights = np.zeros((wide, size), np.float32), np.zeros((QUERIES, size), np.float32)
    queries, taken = np.zeros((QUERIES, wide), np.float32), np.zeros((QUERIES, wide), np.float32)
    for s in range(len(texts)):
        stem, stem_end, first, end = texts[s, 0], texts[s, 1], texts[s, 2], texts[s, 3]
        before = stem_end - stem
        for h in range(heads):
            if h % (heads // key_heads) == 0:
                of = heads + h // (heads // key_heads)
                _gather(mixed, of, texts[s], keys)
                _turned(keys, before + end - first, turned)
                _gather(mixed, of + key_heads, texts[s], values)
            for begin in range(0, end - first, QUERIES):
                some = min(QUERIES, end - first - begin)
                _copy(mixed, h, first + begin, first + begin + some, 0, queries)
                _scores(queries, turned, before, begin, some, width, weights)
                for q in range(some):
                    seen = before + begin + q + 1
                    row = weights[q, :seen]
                    most, total = largest(row) * scaling, _F(0.0)
                    for i in range(seen):
                        row[i] = exp(row[i] * scaling - most)
                        total += row[i]
                    inverse = _F(1.0) / total
                    for i in range(seen):
                        row[i] *= inverse
                    weights[q, seen : before + begin + q // ROWS * ROWS + ROWS] = _F(0.0)
                    logs[first + begin + q, h] = most + np.log(total)
                _taken(weights, values, before, begin, some, taken)
                for q in range(some):
                    for i in range(width):
                        out[first + begin + q, h, i] = taken[q, i]


@compiled
def attend_back(mixed, texts, heads, scaling, taken, logs, given, out):
    """Write the gradient of `attend`.

    Args:
        mixed: see `attend`.
        texts: see `attend`.
        heads: see `attend`.
        scaling: see `attend`.
        taken: [N, heads, D] what `attend` gave.
        logs: that too.
        given: [N, heads, D] the gradient of that.
        out: [N, heads + 2 key heads, D] the gradient of `mixed`.
    """
    width, key_heads = mixed.shape[2], (mixed.shape[1] - heads) // 2
    longest = (texts[:, 1] - texts[:, 0] + texts[:, 3] - texts[:, 2]).max()
    size, wide = _up(longest, LINE), _up(width, LINE)
    keys, values = np.zeros((size, wide), np.float32), np.zeros((size, wide), np.float32)
    of_keys, of_values = np.zeros((size, wide), np.float32), np.zeros((size, wide), np.float32)
    turned_keys, turned_values = np.zeros((wide, size), np.float32), np.zeros((wide, size), np.float32)
    weights, slopes = np.zeros((QUERIES, size), np.float32), np.zeros((QUERIES, size), np.float32)
    queries, back = np.zeros((QUERIES, wide), np.float32), np.zeros((QUERIES, wide), np.float32)
    of_queries = np.zeros((QUERIES, wide), np.float32)
    for n in range(len(out)):
        for h in range(heads, out.shape[1]):
            for i in range(width):
                out[n, h, i] = _F(0.0)
    for s in range(len(texts)):
        stem, stem_end, first, end = texts[s, 0], texts[s, 1], texts[s, 2], texts[s, 3]
        before = stem_end - stem
        length = before + end - first
        for h in range(heads):
            of = heads + h // (heads // key_heads)
            if h % (heads // key_heads) == 0:
                _gather(mixed, of, texts[s], keys)
                _turned(keys, length, turned_keys)
                _gather(mixed, of + key_heads, texts[s], values)
                _turned(values, length, turned_values)
                of_keys[:] = _F(0.0)
                of_values[:] = _F(0.0)
            for begin in range(0, end - first, QUERIES):
                some = min(QUERIES, end - first - begin)
                _copy(mixed, h, first + begin, first + begin + some, 0, queries)
                _copy(given, h, first + begin, first + begin + some, 0, back)
                _scores(queries, turned_keys, before, begin, some, width, weights)
                _scores(back, turned_values, before, begin, some, width, slopes)
                for q in range(_up(some, ROWS)):
                    seen = before + begin + q + 1 if q < some else 0
                    row, slope = weights[q, :seen], slopes[q, :seen]
                    if seen:
                        log, mean = logs[first + begin + q, h], _F(0.0)
                        for i in range(width):
                            mean += back[q, i] * taken[first + begin + q, h, i]
                        for i in range(seen):
                            row[i] = exp(row[i] * scaling - log)
                            slope[i] = row[i] * (slope[i] - mean) * scaling
                    weights[q, seen:] = _F(0.0)
                    slopes[q, seen:] = _F(0.0)
                _taken(slopes, keys, before, begin, some, of_queries)
                _given_back(slopes, queries, before, begin, _up(some, ROWS), of_keys)
                _given_back(weights, back, before, begin, _up(some, ROWS), of_values)
                for q in range(some):
                    for i in range(width):
                        out[first + begin + q, h, i] = of_queries[q, i]
            if (h + 1) % (heads // key_heads) == 0:
                _scatter(of_keys, texts[s], of, out)
                _scatter(of_values, texts[s], of + key_heads, out)
