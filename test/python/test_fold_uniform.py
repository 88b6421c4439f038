"""Tensors of one number and operators that change nothing (graph-fold-uniform): with -fp=strict the bits are those without fusion, where
the pass does not run; for zeros of both signs, infinities and NaN too. An attention without a mask of the model's reads nothing else."""
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlc
from dlc.compiler import tool

SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-8, -1e-8, 3.4e38, 6e-5, -6e-5], np.float32)
NUMBERS = {"zero": 0.0, "minus": -0.0, "one": 1.0, "two": 2.0, "most": np.inf, "least": -np.inf}
READERS = {"itself": ["Identity"], "exponential": ["Exp"], "quotient": ["Reciprocal"], "root": ["Neg", "Reciprocal"], "half": ["Abs", "Reciprocal"]}


def save(nodes, inputs, outputs, constants, path, opset=23):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(array, name) for name, array in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return str(path)


def assert_same_bits(got, wanted):
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    if got.dtype.kind == "f":
        isnan = np.isnan(wanted)
        assert np.array_equal(np.isnan(got), isnan)
        got, wanted = np.where(isnan, 1, got), np.where(isnan, 1, wanted)
        assert np.array_equal(np.signbit(got), np.signbit(wanted))
    assert np.array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_identities(op, dtype, tmp_path):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    with np.errstate(over="ignore"):
        x = np.tile(SPECIAL, 6).reshape(6, 12).astype(dtype)
    nodes, outputs = [], []
    for number in NUMBERS:
        for side in (0, 1):
            for reader, chain in READERS.items():
                name = f"{number}{side}{reader}"
                nodes.append(helper.make_node(op, ["x", number][::1 - 2 * side], [name + "0"]))
                for i, function in enumerate(chain):
                    nodes.append(helper.make_node(function, [f"{name}{i}"], [f"{name}{i + 1}" if i + 1 < len(chain) else name + "y"]))
                outputs.append(helper.make_tensor_value_info(name + "y", kind, x.shape))
    path = save(nodes, [helper.make_tensor_value_info("x", kind, x.shape)], outputs,
                {name: np.full(x.shape, value, dtype) for name, value in NUMBERS.items()}, tmp_path / "m.onnx")
    for got, wanted in zip(*(dlc.compile(path, fp="strict", fuse=fuse).run([x]) for fuse in ("on", "off")), strict=True):
        assert_same_bits(got, wanted)


def masked(folder, rows, keys, low, high, offset):
    """The row maxima of a mask of positions: keys from row + low to row + high are seen."""
    constants = {"i": np.arange(rows).reshape(rows, 1) + offset, "j": np.arange(keys), "low": np.array(low), "high": np.array(high),
                 "out": np.array(-np.inf, np.float32), "in": np.array(0, np.float32), "axis": np.array([1])}
    nodes = [helper.make_node("Add", ["i", "low"], ["first"]), helper.make_node("Add", ["i", "high"], ["last"]),
             helper.make_node("Less", ["j", "first"], ["before"]), helper.make_node("Greater", ["j", "last"], ["after"]),
             helper.make_node("Or", ["before", "after"], ["hidden"]), helper.make_node("Where", ["hidden", "out", "in"], ["mask"]),
             helper.make_node("Add", ["x", "mask"], ["t"]), helper.make_node("ReduceMax", ["t", "axis"], ["m"]),
             helper.make_node("ReduceMax", ["mask", "axis"], ["y"])]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [rows, keys]), ("m", [rows, 1]), ("y", [rows, 1]))]
    return save(nodes, io[:1], io[1:], constants, folder / "m.onnx")


@pytest.mark.parametrize("rows,keys,low,high,offset,isFolded", [
    (600, 600, -10**6, 0, 0, True), (600, 600, -7, 0, 0, True), (600, 700, -10**6, 0, 100, True), (600, 700, -7, 0, 100, True),
    (600, 600, -10**6, -1, 0, False), (600, 600, 1, 10**6, 0, False), (600, 600, 0, 10**6, 0, True), (600, 500, -7, 0, 0, False)])
def test_rows_of_masks(rows, keys, low, high, offset, isFolded, tmp_path):
    """Folded exactly where each row sees a key; the maximum is the interpreter's either way."""
    path = masked(tmp_path, rows, keys, low, high, offset)
    x = np.random.default_rng(1).normal(size=(rows, keys)).astype(np.float32)
    for got, wanted in zip(dlc.compile(path).run([x]), dlc.compile(path, "interp").run([x]), strict=True):
        assert_same_bits(got, wanted)
    kernels = subprocess.run([tool("dlc"), path, "-emit=kernels", "-o", "-", "-q"], capture_output=True, text=True).stdout
    assert kernels.count("fold  max") == (1 if isFolded else 2)


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16", "BFLOAT16"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_reads_no_mask(causal, dtype, tmp_path):
    """600 x 600 zeros are more than the importer folds. Control: a mask of the model's is read."""
    kind = getattr(TensorProto, dtype)
    io = [helper.make_tensor_value_info(name, kind, [1, 2, 600, 32]) for name in "qkvy"]
    mask = helper.make_tensor_value_info("m", kind, [600, 600])
    for inputs, has_mask in ((io[:3], False), ([*io[:3], mask], True)):
        node = helper.make_node("Attention", [i.name for i in inputs], ["y"], is_causal=causal)
        path = save([node], inputs, io[3:], {}, tmp_path / "m.onnx")
        done = subprocess.run([tool("dlc"), path, "-target=cuda", "-emit=kernels", "-o", "-", "-q"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        kernels = [line for line in done.stdout.splitlines() if line.startswith("graph.kernel ")]
        assert (len(kernels) == 1 and "600x600" not in kernels[0]) == (not has_mask)
        assert ("causal" in done.stdout) == bool(causal)
