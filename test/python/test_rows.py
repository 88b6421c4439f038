"""The rows of the graph dialect on the interpreter, with symbolic sizes.

test_op_fuzz.py compares operators of fixed sizes with onnx.reference. Here the same random cases are given to the compiler with
dim symbols in place of sizes (sizes that are equal share a symbol), so that the index maps which the rows build from symbols are
evaluated, and every row of the dialect is checked to be reached by some case. A failing case is shrunk before it is reported.
DLC_FUZZ_CASES and DLC_FUZZ_SEED as in test_op_fuzz.py."""
import os
import re
import subprocess

import numpy as np
import op_cases
import pytest
import test_op_fuzz as fuzz
from onnx import helper

import dlc

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CASES = int(os.environ.get("DLC_FUZZ_CASES", "4"))
SEED = int(os.environ.get("DLC_FUZZ_SEED", "1"))

# Operators whose result sizes are data, or which have no sizes to hide: nothing to learn from symbols.
FIXED = {"Einsum"}


def make_symbolic(cases, expected):
    """(model, feed) of cases side by side, with a symbol for every size of a fed input that no constant of the case has too."""
    model, feed = fuzz.make_model(cases, expected)
    fixed = [{n for i in case.constants if i < len(case.inputs) and case.inputs[i] is not None for n in case.inputs[i].shape} for case in cases]
    for tensor in model.graph.input:
        number = int(re.match(r"x(\d+)_", tensor.name)[1])
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_value > 1 and dim.dim_value not in fixed[number]:
                dim.dim_param = f"n{number}_{dim.dim_value}"
    for tensor, array in zip(model.graph.output, [array for arrays in expected for array in arrays]):  # left to the compiler
        tensor.CopyFrom(helper.make_tensor_value_info(tensor.name, tensor.type.tensor_type.elem_type, [None] * array.ndim))
    return model, feed


def run_symbolic(cases, expected):
    """For each case None when right, "unsupported: ..." when refused, else what differs."""
    model, feed = make_symbolic(cases, expected)
    try:
        got = iter(dlc.compile(model, target="interp").run(feed))
    except (dlc.UnsupportedOpError, dlc.CompileError) as error:
        if len(cases) == 1:
            return [f"unsupported: {error}"]
        return [run_symbolic([case], [arrays])[0] for case, arrays in zip(cases, expected)]
    found = []
    for arrays in expected:
        differences = [fuzz.difference(next(got), array) for array in arrays]
        found.append(next((d for d in differences if d), None))
    return found


def shrink(case, still_wrong):
    """A smaller case that is still wrong: axes of the inputs are cut while it stays so."""
    changed = True
    while changed:
        changed = False
        for i, array in enumerate(case.inputs):
            if array is None or i in case.constants:
                continue
            for axis in range(array.ndim):
                for size in (1, array.shape[axis] // 2, array.shape[axis] - 1):
                    if not 0 < size < array.shape[axis]:
                        continue
                    inputs = list(case.inputs)
                    inputs[i] = np.ascontiguousarray(np.take(array, range(size), axis))
                    smaller = op_cases.Case(case.op, inputs, case.attributes, case.outputs, case.constants)
                    if still_wrong(smaller):
                        case, array, changed = smaller, inputs[i], True
                        break
    return case


def is_wrong(case):
    expected = fuzz.expected_of(case)
    if expected is None:
        return False
    found = run_symbolic([case], [expected])[0]
    return bool(found) and not found.startswith("unsupported")


@pytest.mark.parametrize("name", sorted(set(op_cases.GENERATORS) - FIXED))
def test_symbolic(name):
    pairs = [(case, values) for case in fuzz.make_cases(name, CASES, SEED + 1000) if (values := fuzz.expected_of(case)) is not None]
    refused, right, wrong = [], 0, []
    for start in range(0, len(pairs), fuzz.BATCH):
        cases, expected = zip(*pairs[start : start + fuzz.BATCH])
        for case, found in zip(cases, run_symbolic(list(cases), list(expected))):
            if found is None:
                right += 1
            elif found.startswith("unsupported"):
                refused.append(found)
            else:
                small = shrink(case, is_wrong)
                wrong.append(f"{fuzz.describe(small)} (from {fuzz.describe(case)}): {found}")
    assert not wrong, f"seed {SEED}: {len(wrong)} cases differ:\n" + "\n".join(wrong[:5])
    if not right:
        pytest.skip("refused with symbolic sizes: " + (refused[0] if refused else "no case"))


# ------------------------------------------------------------------------------------------------ coverage
def declared_rows():
    """Mnemonics of the rows with a kernel: every TensorOp of the dialect's .td files."""
    rows = set()
    for name in ("ElementwiseOps.td", "StructuredOps.td"):
        with open(os.path.join(ROOT, "include/dlc/Dialect/Graph/IR", name)) as file:
            rows |= set(re.findall(r'^def Graph_\w+ : Graph_\w+<"(\w+)"', file.read(), re.M))
    return rows - {"constant"}


# Rows that no ONNX operator of the generators becomes, each with the reason; the unit tests cover them.
UNREACHED = {
    "size": "the generators' sizes are known; means and shapes of symbolic dims make it (test_data_sizes.py, test_symbolic_groups.py)",
    "trunc": "no ONNX operator; casts do it",
}


def test_every_row_is_reached(tmp_path):
    """Each row stands in the graph of some generated case (weak when only one case in many has it: 12 are tried)."""
    reached = set()
    for name in sorted(op_cases.GENERATORS):
        cases = fuzz.make_cases(name, 12, SEED)
        pairs = [(case, values) for case in cases if (values := fuzz.expected_of(case)) is not None]
        for chosen in (pairs, *([pair] for pair in pairs)):
            if not chosen:
                break
            model, _ = fuzz.make_model([c for c, _ in chosen], [v for _, v in chosen])
            path = tmp_path / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            done = subprocess.run([dlc.compiler.tool("dlc"), path, "-target=interp", "-emit=graph", "-o", "-", "-q"], capture_output=True,
                                  text=True)
            if done.returncode == 0:
                reached |= set(re.findall(r"= graph\.(\w+)", done.stdout))
                break
    missing = declared_rows() - reached - set(UNREACHED)
    assert not missing, f"no case reaches {sorted(missing)}"
    stale = set(UNREACHED) & reached
    assert not stale, f"reached after all, remove from UNREACHED: {sorted(stale)}"
