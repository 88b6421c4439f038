"""A few constants that many read: slices of one matrix as factors of several products, its transpose too, filters of one bank,
batches at other distances, a tied embedding, tables of the same numbers."""
import math

import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"B": (6, 11)}
WIDTH, CHANNELS = 24, 8


def part(b, t, axis, size, steps=1):
    """`size` elements of an axis from a random start, by one of several operators."""
    n = t.shape[axis]
    starts = [s for s in range(n) if s + (size - 1) * steps < n]
    start = b.choice(starts)
    kind = int(b.rng.integers(3)) if steps == 1 else 0
    if kind == 1:
        return b.add("Gather", t, b.ints(*range(start, start + size)), axis=axis)
    if kind == 2 and n % size == 0:
        parts = b.add_many("Split", n // size, t, b.ints(*[size] * (n // size)), axis=axis)
        return parts and b.choice(parts)
    return b.add("Slice", t, b.ints(start), b.ints(start + (size - 1) * steps + 1), b.ints(axis), b.ints(steps))


def product(b, x, matrix):
    """x [B, WIDTH] times a WIDTH x WIDTH part of the matrix, as it lies or transposed."""
    kind = int(b.rng.integers(4))
    steps = b.choice([1, 1, 2])
    w = part(b, part(b, matrix, 0, WIDTH, steps), 1, WIDTH) if kind < 3 else part(b, matrix, 0, WIDTH)
    if w is None or w.shape[1] != WIDTH:
        w = w and part(b, w, 1, WIDTH)
    if w is not None and kind == 0:
        w = b.add("Transpose", w, perm=[1, 0])
    if w is None:
        return None
    if kind == 1:  # the constant is the left factor
        y = b.add("MatMul", w, b.add("Transpose", x, perm=[1, 0]))
        return y and b.add("Transpose", y, perm=[1, 0])
    if kind == 2:
        return b.add("Gemm", x, w, transB=int(b.rng.integers(2)))
    return b.add("MatMul", x, w)


def batched(b, x, stack):
    """x against two matrices of a stack of four, neighbours or not."""
    w = part(b, stack, 0, 2, b.choice([1, 1, 2, 3]))
    if w is not None and b.rng.random() < 0.4:
        w = b.add("Transpose", w, perm=[0, 2, 1])
    y = b.add("MatMul", x, w)
    return y and b.add("ReduceSum", y, b.ints(0), keepdims=0)


def convolution(b, image, bank):
    kind = int(b.rng.integers(4))
    w = part(b, bank, 0, CHANNELS)
    if w is None:
        return None
    if kind == 0:  # depthwise: one channel of each filter
        return b.add("Conv", image, part(b, w, 1, 1), group=CHANNELS, pads=[1] * 4)
    if kind == 1:  # the middle of each filter
        return b.add("Conv", image, part(b, part(b, w, 2, 1), 3, 1))
    if kind == 2:  # filters and channels exchanged
        w = b.add("Transpose", w, perm=[1, 0, 2, 3])
    return b.add("Conv", image, w, pads=[1] * 4)


def settle(b, t):
    """Numbers of moderate size."""
    return t and b.add(b.choice(["Tanh", "Softsign", "Sin"]), t)


def build(b):
    scale = 1.7 / math.sqrt(WIDTH)
    matrix, stack = b.parameter([3 * WIDTH, 2 * WIDTH], -scale, scale), b.parameter([4, WIDTH, WIDTH], -scale, scale)
    fan = 1.7 / math.sqrt(9 * CHANNELS)
    bank = b.parameter([3 * CHANNELS, CHANNELS, 3, 3], -fan, fan)
    table = b.parameter([3, WIDTH], -1.0, 1.0)
    tokens = b.input(["B"], TensorProto.INT64, 0, 3 * WIDTH - 1)
    x = b.input(["B", WIDTH])
    image = b.input([2, CHANNELS, 9, 7])
    embedded = settle(b, part(b, b.add("Gather", matrix, tokens, axis=0), 1, WIDTH))  # tied to the products' weights
    rows, images = [x] + ([embedded] if embedded else []), [image]
    while not b.is_full:
        kind, t = int(b.rng.integers(6)), b.choice(rows[-6:])
        if kind < 2:
            y = product(b, t, matrix)
        elif kind == 2:
            y = batched(b, t, stack)
        elif kind == 3:
            row = b.add("Gather", table, b.scalar(int(b.rng.integers(3)), TensorProto.INT64), axis=0)
            y = row and b.add(b.choice(["Add", "Mul", "Max"]), t, row)
        elif kind == 4:
            y = b.add(b.choice(c.BINARY), t, b.choice(rows))
        else:
            made = settle(b, convolution(b, b.choice(images[-3:]), bank))
            if made is not None:
                images.append(made)
            continue
        y = settle(b, y)
        if y is not None:
            rows.append(y)
            if b.rng.random() < 0.05:
                b.keep(y)
