"""Transformer blocks of several kinds: norm before or after, layer norm or RMS norm, masked or not, shared key heads, rotary
places, gated or plain feed-forward parts."""
import math

import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"B": (2, 3), "S": (12, 9)}
HEADS, WIDTH = 4, 8
HIDDEN = HEADS * WIDTH


def linear(b, t, n, bias=True):
    y = b.add("MatMul", t, b.parameter([t.shape[-1], n], -1.6 / math.sqrt(t.shape[-1]), 1.6 / math.sqrt(t.shape[-1])))
    return b.add("Add", y, b.parameter([n], -0.1, 0.1)) if bias else y


def norm(b, t, kind):
    if t is None:
        return None
    if kind == "layer":
        return b.add("LayerNormalization", t, b.parameter([HIDDEN], 0.5, 1.0), b.parameter([HIDDEN], -0.1, 0.1), axis=-1, epsilon=1e-3)
    if kind == "rms":
        return b.add("RMSNormalization", t, b.parameter([HIDDEN], 0.5, 1.0), axis=-1, epsilon=1e-3)
    mean = b.add("ReduceMean", b.add("Mul", t, t), b.ints(-1), keepdims=1)
    y = b.add("Mul", t, b.add("Reciprocal", b.add("Sqrt", b.add("Add", mean, 1e-2))))
    return b.add("Mul", y, b.parameter([HIDDEN], 0.5, 1.0))


def heads(b, t, count):
    """[B, S, count * W] -> [B, count, S, W]"""
    t = t and b.add("Reshape", t, b.ints(0, 0, count, WIDTH))
    return t and b.add("Transpose", t, perm=[0, 2, 1, 3])


def rotary(b, t, angle):
    """Halves of the last axis turned by an angle for each place."""
    parts = t and b.add_many("Split", 2, t, b.ints(WIDTH // 2, WIDTH // 2), axis=-1)
    if not parts or not angle:
        return None
    turned = b.add("Concat", b.add("Neg", parts[1]), parts[0], axis=-1)
    return b.add("Add", b.add("Mul", t, angle[0]), b.add("Mul", turned, angle[1]))


def attention(b, t, mask, angle, shared, written):
    keys = HEADS // 2 if shared else HEADS
    q, k, v = heads(b, linear(b, t, HIDDEN), HEADS), heads(b, linear(b, t, keys * WIDTH), keys), heads(b, linear(b, t, keys * WIDTH), keys)
    if angle:
        q, k = rotary(b, q, angle), rotary(b, k, angle)
    if shared and k is not None and v is not None:  # each key head serves two query heads
        def repeat(u):
            wide = b.add("Expand", b.add("Unsqueeze", u, b.ints(2)), b.ints(1, 1, 2, 1, 1))
            return wide and b.reshape(wide, [(wide.shape[0], wide.symbolic[0], 0), (HEADS, False, None), (wide.shape[3], wide.symbolic[3], None),
                                             (WIDTH, False, None)])
        k, v = repeat(k), repeat(v)
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=[0, 1, 3, 2]) if k is not None else None)
    scores = b.add("Mul", scores, 1 / math.sqrt(WIDTH)) if b.rng.random() < 0.5 else b.add("Div", scores, math.sqrt(WIDTH))
    if mask is not None:
        scores = b.add("Add", scores, mask)
    if written:
        e = b.add("Exp", b.add("Sub", scores, b.add("ReduceMax", scores, b.ints(-1), keepdims=1)))
        weights = e and b.add("Div", e, b.add("ReduceSum", e, b.ints(-1), keepdims=1))
    else:
        weights = b.add("Softmax", scores, axis=-1)
    y = b.add("Transpose", b.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    y = y and b.add("Reshape", y, b.ints(0, 0, HIDDEN))
    return y and linear(b, y, HIDDEN)


def feed_forward(b, t, kind):
    if kind == "gated":
        gate = linear(b, t, 3 * HIDDEN // 2, bias=False)
        gate = gate and b.add("Mul", gate, b.add("Sigmoid", gate))
        y = b.add("Mul", gate, linear(b, t, 3 * HIDDEN // 2, bias=False))
    elif kind == "gelu":
        y = b.add("Gelu", linear(b, t, 2 * HIDDEN), approximate=b.choice(["none", "tanh"]))
    else:  # gelu written out
        x = linear(b, t, 2 * HIDDEN)
        y = b.add("Mul", b.add("Mul", x, b.add("Add", b.add("Erf", b.add("Div", x, math.sqrt(2.0))), 1.0)), 0.5)
    return y and linear(b, y, HIDDEN)


def build(b):
    x = b.input(["B", "S", HIDDEN])
    mask = b.input(["B", 1, 1, "S"], low=-2.0, high=0.0)
    causal = b.input(["S", "S"], low=-2.0, high=0.0)
    angles = (b.input(["S", WIDTH]), b.input(["S", WIDTH]))
    kind, first = b.choice(["layer", "rms", "written"]), b.rng.random() < 0.6
    masks, turn, shared = b.choice([None, mask, causal]), b.rng.random() < 0.5, b.rng.random() < 0.4
    written, forward = b.rng.random() < 0.5, b.choice(["gated", "gelu", "written"])
    while not b.is_full:
        for part in (lambda t: attention(b, t, masks, angles if turn else None, shared, written), lambda t: feed_forward(b, t, forward)):
            y = part((norm(b, x, kind) or x) if first else x)
            total = (y and b.add("Add", x, y)) or x
            x = total if first else norm(b, total, kind) or total
            if np.abs(x.values[0].array).max() > 5:
                x = norm(b, x, kind) or b.add("Tanh", x) or x
        if b.rng.random() < 0.05:
            b.keep(x)
