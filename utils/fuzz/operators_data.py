"""Operators that only move elements or tell sizes, for operators.py: exact, whatever the element type."""
import numpy as np
from onnx import TensorProto, numpy_helper

import evaluate

MOVES = {}


def move(*names):
    def add(function):
        def run(ctx, inputs, a):
            result = function(inputs, a)
            wrap = lambda r: r if isinstance(r, evaluate.Value) else evaluate.Value(np.asarray(r), inputs[0].type)
            return [wrap(r) for r in result] if isinstance(result, list) else wrap(result)

        for name in names:
            MOVES[name] = run
        return function

    return add


def ints(v):
    return [int(n) for n in v.array.ravel()]


def optional(inputs, index):
    return inputs[index] if len(inputs) > index and inputs[index] is not None else None


@move("Transpose")
def _(inputs, a):
    return np.transpose(inputs[0].array, a.get("perm"))


@move("Reshape")
def _(inputs, a):
    shape = ints(inputs[1])
    if not a.get("allowzero", 0):
        shape = [inputs[0].array.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return inputs[0].array.reshape(shape)


@move("Flatten")
def _(inputs, a):
    x, axis = inputs[0].array, a.get("axis", 1)
    axis = axis % (x.ndim + 1) if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def axes_of(inputs, a):
    """The axes, an input since opset 13, an attribute before; None when they are left out."""
    axes = ints(inputs[1]) if optional(inputs, 1) else a.get("axes")
    return axes if axes is None else tuple(axes)


@move("Squeeze")
def _(inputs, a):
    return np.squeeze(inputs[0].array, axes_of(inputs, a))


@move("Unsqueeze")
def _(inputs, a):
    return np.expand_dims(inputs[0].array, axes_of(inputs, a))


@move("Expand")
def _(inputs, a):
    return np.array(np.broadcast_to(inputs[0].array, np.broadcast_shapes(inputs[0].array.shape, tuple(ints(inputs[1])))))


@move("Tile")
def _(inputs, a):
    return np.tile(inputs[0].array, ints(inputs[1]))


@move("Slice")
def _(inputs, a):
    x, starts, ends = inputs[0].array, ints(inputs[1]), ints(inputs[2])
    axes = ints(inputs[3]) if optional(inputs, 3) else list(range(len(starts)))
    steps = ints(inputs[4]) if optional(inputs, 4) else [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        n = x.shape[axis]
        if step > 0:
            start, end = (min(max(v + n if v < 0 else v, 0), n) for v in (start, end))
        else:
            start = min(max(start + n if start < 0 else start, 0), n - 1)
            end = min(max(end + n if end < 0 else end, -1), n - 1)
            end = None if end < 0 else end
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


@move("Concat")
def _(inputs, a):
    return np.concatenate([v.array for v in inputs], a["axis"])


@move("Split")
def _(inputs, a):
    x, axis = inputs[0].array, a.get("axis", 0)
    sizes = ints(inputs[1]) if optional(inputs, 1) else a.get("split")  # an attribute before opset 13
    if sizes is not None:
        return list(np.split(x, np.cumsum(sizes)[:-1], axis))
    size = -(-x.shape[axis] // a["num_outputs"])
    return list(np.split(x, range(size, x.shape[axis], size), axis))


@move("Pad")
def _(inputs, a):
    x, pads = inputs[0].array, ints(inputs[1])
    axes = [n % x.ndim for n in ints(inputs[3])] if optional(inputs, 3) else list(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    mode = a.get("mode", b"constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    index = tuple(slice(max(-low, 0), n - max(-high, 0)) for (low, high), n in zip(widths, x.shape))
    widths = [(max(low, 0), max(high, 0)) for low, high in widths]
    if mode != "constant":
        return np.pad(x[index], widths, mode=mode)
    fill = inputs[2].array.ravel()[0] if optional(inputs, 2) else 0
    return np.pad(x[index], widths, constant_values=fill)


@move("Gather")
def _(inputs, a):
    return np.take(inputs[0].array, inputs[1].array, axis=a.get("axis", 0))


@move("GatherElements")
def _(inputs, a):
    x, axis = inputs[0].array, a.get("axis", 0)
    index = inputs[1].array
    return np.take_along_axis(x, np.where(index < 0, index + x.shape[axis], index), axis)


@move("DepthToSpace")
def _(inputs, a):
    n, c, h, w = inputs[0].array.shape
    b = a["blocksize"]
    if a.get("mode", b"DCR") in (b"DCR", "DCR"):
        t = inputs[0].array.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        t = inputs[0].array.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return t.reshape(n, c // b**2, h * b, w * b)


@move("SpaceToDepth")
def _(inputs, a):
    n, c, h, w = inputs[0].array.shape
    b = a["blocksize"]
    return inputs[0].array.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@move("Trilu")
def _(inputs, a):
    k = int(inputs[1].array) if optional(inputs, 1) else 0
    return (np.triu if a.get("upper", 1) else np.tril)(inputs[0].array, k)


@move("ReverseSequence")
def _(inputs, a):
    x, lengths = inputs[0].array, ints(inputs[1])
    batch, time = a.get("batch_axis", 1), a.get("time_axis", 0)
    y = np.moveaxis(np.array(x), (batch, time), (0, 1))
    for i, n in enumerate(lengths):
        y[i, :n] = y[i, :n][::-1].copy()
    return np.moveaxis(y, (0, 1), (batch, time))


@move("Shape")
def _(inputs, a):
    rank = inputs[0].array.ndim
    return evaluate.Value(np.array(inputs[0].array.shape[slice(a.get("start", 0), a.get("end", rank))], np.int64), TensorProto.INT64)


@move("Size")
def _(inputs, a):
    return evaluate.Value(np.array(inputs[0].array.size, np.int64), TensorProto.INT64)


@move("Constant")
def _(inputs, a):
    if "value" in a:
        return evaluate.from_numpy(numpy_helper.to_array(a["value"]), a["value"].data_type)
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64), ("value_floats", np.float32), ("value_ints", np.int64)):
        if name in a:
            return evaluate.from_numpy(np.array(a[name], dtype))
    raise NotImplementedError("Constant of text or sparse data")


@move("ConstantOfShape")
def _(inputs, a):
    fill = numpy_helper.to_array(a["value"]) if "value" in a else np.zeros(1, np.float32)
    return evaluate.from_numpy(np.full(ints(inputs[0]), fill[0]))


@move("Range")
def _(inputs, a):
    start, limit, delta = (v.array.item() for v in inputs)
    return np.arange(start, limit, delta, dtype=inputs[0].array.dtype)
