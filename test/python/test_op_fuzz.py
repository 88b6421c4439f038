"""Operators against onnx's executable specification on random cases (op_cases.py), on the interpreter and on the host.

DLC_FUZZ_CASES is the number of cases for each operator (default 8; the full tier takes 200), DLC_FUZZ_SEED the seed, which a
failure prints. Several cases of an operator share one model, because a compilation costs more than a tiny node; when that is
refused, each case is tried alone, so that one unsupported variant hides no other."""
import os
import zlib

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import op_cases
import pytest
from onnx import helper, numpy_helper

import dlc

CASES = int(os.environ.get("DLC_FUZZ_CASES", "8"))
SEED = int(os.environ.get("DLC_FUZZ_SEED", "1"))
BATCH = 20
# Where the reference mixes up pads that differ, groups with a bias, or ceil_mode, onnxruntime is the oracle.
BY_ONNXRUNTIME = ("MaxPool", "ConvTranspose")
OPSET = 24


def make_cases(name, count, seed):
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return [op_cases.GENERATORS[name](rng) for _ in range(count)]


def expected_of(case):
    """The outputs that onnx.reference computes for one case, or None where it refuses it."""
    model, feed = make_model([case])
    try:
        if case.op in BY_ONNXRUNTIME:
            return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)
        with np.errstate(all="ignore"):
            return onnx.reference.ReferenceEvaluator(model).run(None, feed)
    except Exception:  # noqa: BLE001  the reference raises whatever its numpy code raises
        return None


def make_model(cases, expected=None):
    """(model, feed): the nodes of all cases side by side, inputs x<case>_<i>, outputs y<case>_<o>.

    With the expected arrays the outputs are declared with their types and shapes."""
    nodes, inputs, outputs, constants, feed = [], [], [], [], {}
    for c, case in enumerate(cases):
        names = []
        for i, array in enumerate(case.inputs):
            if array is None:
                names.append("")
                continue
            name = f"x{c}_{i}"
            names.append(name)
            if i in case.constants:
                constants.append(numpy_helper.from_array(array, name))
            else:
                inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
                feed[name] = array
        results = [f"y{c}_{o}" for o in range(case.outputs)]
        nodes.append(helper.make_node(case.op, names, results, name=f"case{c}", **case.attributes))
        for o, result in enumerate(results):
            if expected:
                array = expected[c][o]
                outputs.append(helper.make_tensor_value_info(result, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
            else:
                outputs.append(helper.make_empty_tensor_value_info(result))
    graph = helper.make_graph(nodes, "fuzz", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), feed


def is_narrow(array):
    """An element type of ml_dtypes in a byte: f8, f6, f4, i4, i2 and their kin."""
    return array.dtype.itemsize == 1 and array.dtype.name not in ("bool", "int8", "uint8")


def codes(array):
    """The bytes of a narrow array, the array itself otherwise."""
    return array.view(np.uint8) if is_narrow(array) else array


def difference(got, expected):
    """None when equal up to rounding, else a sentence."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return f"{got.dtype}{list(got.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if is_narrow(expected):  # every rounding is exact; not-a-numbers are alike
        nans = [x != x for x in (got, expected)]
        same = np.array_equal(*nans) and np.array_equal(codes(got)[~nans[0]], codes(expected)[~nans[0]])
        return None if same else f"{got.ravel()[:8]}, expected {expected.ravel()[:8]}"
    if expected.dtype.kind != "f":
        return None if np.array_equal(got, expected) else f"{got.ravel()[:8]}, expected {expected.ravel()[:8]}"
    relative = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-11}[expected.dtype.name]
    finite = np.abs(expected[np.isfinite(expected)])
    if np.allclose(got, expected, rtol=relative, atol=relative * float(finite.max() if finite.size else 0), equal_nan=True):
        return None
    worst = np.unravel_index(np.nanargmax(np.abs(got.astype(np.float64) - expected)), expected.shape) if expected.shape else ()
    return f"{got[worst]!r} at {tuple(map(int, worst))}, expected {expected[worst]!r}"


def run_cases(cases, expected, target):
    """[None or a sentence] for each case; the word "unsupported" where dlc refuses the operator."""
    model, feed = make_model(cases, expected)
    try:
        compiled = dlc.compile(model, target=target)
        # A case without a fed input is a constant: the feed may be empty.
        got = iter(compiled.run(feed))
    except dlc.UnsupportedOpError as error:
        if len(cases) == 1:
            return [f"unsupported: {error}"]
        return [run_cases([case], [values], target)[0] for case, values in zip(cases, expected)]
    found = []
    for case, arrays in zip(cases, expected):
        differences = [difference(next(got), array) for array in arrays]
        found.append(next((d for d in differences if d), None))
    return found


def describe(case):
    shapes = ", ".join("-" if x is None else f"{x.dtype}{list(x.shape)}" for x in case.inputs)
    return f"{case.op}({shapes}) {case.attributes}"


@pytest.mark.parametrize("target", ["interp", "host"])
@pytest.mark.parametrize("name", sorted(op_cases.GENERATORS))
def test_operator(name, target):
    pairs = [(case, expected_of(case)) for case in make_cases(name, CASES, SEED)]
    pairs = [(case, values) for case, values in pairs if values is not None]
    assert len(pairs) >= CASES / 2, f"the reference refuses most cases of {name}"
    refused, wrong = 0, []
    for start in range(0, len(pairs), BATCH):
        cases, expected = zip(*pairs[start : start + BATCH])
        for case, text in zip(cases, run_cases(list(cases), list(expected), target)):
            if text and text.startswith("unsupported"):
                refused += 1
            elif text:
                wrong.append(f"{describe(case)}: {text}")
    assert not wrong, f"seed {SEED}, {len(wrong)} of {len(pairs)} cases differ:\n" + "\n".join(wrong[:5])
    if refused == len(pairs):
        pytest.skip(f"{name} is refused in words")


def test_a_wrong_operator_is_found_out():
    """Negative control: where the specification rounds up and the compiler down, every case must differ."""
    rng = np.random.default_rng(SEED)
    cases = [op_cases.Case("Floor", [op_cases.values(rng, [5, 9], "float32")]) for _ in range(4)]
    expected = [expected_of(op_cases.Case("Ceil", case.inputs)) for case in cases]
    assert all(run_cases(cases, expected, "host"))


def test_small_differences_are_found_out():
    """Negative control of the comparison: a wrong sign of zero distance, one element, one type, one NaN."""
    x = np.linspace(1, 2, 7, dtype=np.float32)
    assert difference(x, x) is None
    y = x.copy()
    y[3] *= np.float32(1.0002)
    assert difference(y, x)
    assert difference(x.astype(np.float64), x)
    assert difference(x[None], x)
    y = x.copy()
    y[0] = np.nan
    assert difference(y, x) and difference(x, y)
    assert difference(np.array([1, 2]), np.array([1, 3]))
