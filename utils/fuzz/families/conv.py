"""Convolutions with normalisation and activation, residual and inverted blocks, pools, pads and joins of channels."""
import math

import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"B": (1, 2)}


def conv(b, t, channels, kernel, stride=1, group=1, bias=True):
    fan = t.shape[1] // group * kernel * kernel
    w = b.parameter([channels, t.shape[1] // group, kernel, kernel], -1.7 / math.sqrt(fan), 1.7 / math.sqrt(fan))
    attributes = dict(kernel_shape=[kernel, kernel], strides=[stride, stride], group=group)
    if b.rng.random() < 0.15:
        attributes["auto_pad"] = b.choice(["SAME_UPPER", "SAME_LOWER"])
    elif b.rng.random() < 0.1 and kernel > 1:  # the pad is a node of its own
        t = b.add("Pad", t, b.ints(0, 0, kernel // 2, kernel // 2, 0, 0, kernel // 2, kernel // 2))
    else:
        attributes["pads"] = [kernel // 2] * 4
    return b.add("Conv", t, w, *([b.parameter([channels], -0.2, 0.2)] if bias else []), **attributes)


def norm(b, t):
    if t is None:
        return None
    n = t.shape[1]
    if b.rng.random() < 0.7:
        return b.add("BatchNormalization", t, b.parameter([n], 0.6, 1.2), b.parameter([n], -0.2, 0.2), b.parameter([n], -0.2, 0.2), b.parameter([n], 0.5, 1.0),
                     epsilon=1e-3)
    if b.rng.random() < 0.5:
        return b.add("InstanceNormalization", t, b.parameter([n], 0.6, 1.2), b.parameter([n], -0.2, 0.2), epsilon=1e-1)
    return b.add("Add", b.add("Mul", t, b.parameter([1, n, 1, 1], 0.6, 1.2)), b.parameter([1, n, 1, 1], -0.2, 0.2))


def act(b, t):
    kind = b.choice(["Relu", "Clip", "HardSwish", "Swish", "LeakyRelu", "PRelu", "Tanh"])
    if t is None or kind == "Clip":
        return t and b.add("Clip", t, 0.0, 3.0)
    if kind == "Swish":
        return b.add("Mul", t, b.add("Sigmoid", t))
    if kind == "PRelu":
        return b.add("PRelu", t, b.parameter([t.shape[1], 1, 1], 0.1, 0.3))
    return b.add(kind, t)


def block(b, t):
    kind = int(b.rng.integers(6))
    n = t.shape[1]
    if kind == 0:  # residual
        y = norm(b, conv(b, act(b, norm(b, conv(b, t, n, 3))) or t, n, 3))
        y = y and b.add("Add", t, y)
        return act(b, y)
    if kind == 1:  # inverted
        y = act(b, norm(b, conv(b, t, 2 * n, 1, bias=False)))
        y = y and act(b, norm(b, conv(b, y, 2 * n, 3, group=2 * n)))
        y = y and norm(b, conv(b, y, n, 1))
        return y and b.add("Add", y, t)
    if kind == 2:  # squeeze and excite
        s = b.add("GlobalAveragePool", t)
        s = s and conv(b, b.add("Relu", conv(b, s, 4, 1)), n, 1)
        return s and b.add("Mul", t, b.add(b.choice(["Sigmoid", "HardSigmoid"]), s))
    if kind == 3:  # pools, of the same size as their input
        op, edge = b.choice(["MaxPool", "AveragePool"]), b.choice([0, 1])
        extra = {"count_include_pad": edge} if op == "AveragePool" else {}
        if b.rng.random() < 0.4:
            t = b.add("Pad", t, b.ints(0, 0, 1, 1, 0, 0, 1, 1), float(np.float32(b.rng.choice([0.0, -1.0])))) or t
            y = b.add(op, t, kernel_shape=[3, 3], pads=[0] * 4, strides=[1, 1], **extra)
        else:
            y = b.add(op, t, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], **extra)
        return y
    if kind == 4:  # branches joined by channels
        parts = [act(b, conv(b, t, n // 2, k)) for k in (1, 3)]
        return b.add("Concat", *parts, axis=1) if all(p is not None for p in parts) else None
    y = act(b, norm(b, conv(b, t, n, 3, group=b.choice([1, 2]))))  # shuffle of channels
    y = y and b.add("Reshape", y, b.ints(0, 2, n // 2, y.shape[2], y.shape[3]))
    y = y and b.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    return y and b.add("Reshape", y, b.ints(0, n, y.shape[3], y.shape[4]))


def build(b):
    n, side = int(b.choice([8, 12])), int(b.choice([9, 12, 14]))
    x = start = b.input(["B", n, side, side])
    while not b.is_full:
        y = block(b, x)
        if y is not None and y.shape[1:] == (n, side, side):
            x = y
        if np.abs(x.values[0].array).max() > 4 or np.abs(x.values[0].array).max() < 0.05:
            x = b.add("Add", b.add("Tanh", x), start) or start
        if b.rng.random() < 0.04:
            b.keep(x)
