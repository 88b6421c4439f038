"""-fp=strict against the interpreter with the compiler's own elementary functions (-math=dlc): equal bits, whatever the operator.

The interpreter evaluates rows one scalar operation at a time and folds from left to right; strict code must do the same
operations in the same order, so no tolerance is needed. libm's functions must differ somewhere: the negative control."""
import subprocess

import numpy as np
import op_cases
import pytest
import test_op_fuzz as fuzz

import dlc

SEED = fuzz.SEED + 2000
CASES = fuzz.CASES


def interpret(path, arrays, count, folder, *options):
    """The outputs of dlc-run -target=interp on these inputs."""
    files = []
    for i, array in enumerate(arrays):
        files.append(str(folder / f"in{i}.npy"))
        np.save(files[-1], fuzz.codes(array))  # .npy has no name for narrow types
    out = folder / "out"
    inputs = ["-inputs=" + ",".join(files)] if files else []
    subprocess.run([dlc.compiler.tool("dlc-run"), path, "-target=interp", f"-outputs={out}", *inputs, *options], check=True)
    return [np.load(out / f"output_{i}.npy") for i in range(count)]


def same_bits(a, b):
    """None, or how many elements differ; NaNs are equal whatever their payload."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}"
    if a.dtype.kind != "f":
        return None if np.array_equal(a, b) else f"{np.count_nonzero(a != b)} elements differ"
    bits = f"u{a.dtype.itemsize}"
    wrong = (np.atleast_1d(a).view(bits) != np.atleast_1d(b).view(bits)) & ~(np.isnan(a) & np.isnan(b)).reshape(-1 if a.ndim == 0 else a.shape)
    if not wrong.any():
        return None
    at = np.argwhere(wrong)[0]
    return f"{np.count_nonzero(wrong)} of {a.size} elements differ, first {np.atleast_1d(a)[tuple(at)]!r}, expected {np.atleast_1d(b)[tuple(at)]!r}"


def run_both(cases, expected, folder, *options):
    """[(case, None or difference)], or None where the operator is refused."""
    model, feed = fuzz.make_model(cases, expected)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        compiled = dlc.compile(str(path), fp="strict")
    except dlc.UnsupportedOpError:
        if len(cases) == 1:
            return []
        return [pair for case, arrays in zip(cases, expected) for pair in run_both([case], [arrays], folder, *options)]
    got = compiled.run(feed)
    want = iter(interpret(path, [feed[t.name] for t in model.graph.input], len(got), folder, *options))
    got = iter(got)
    return [(case, next((d for d in [same_bits(fuzz.codes(np.asarray(next(got))), next(want)) for _ in arrays] if d), None))
            for case, arrays in zip(cases, expected)]


def make_pairs(name):
    return [(case, values) for case in fuzz.make_cases(name, CASES, SEED) if (values := fuzz.expected_of(case)) is not None]


@pytest.mark.parametrize("name", sorted(op_cases.GENERATORS))
def test_strict(name, tmp_path):
    pairs = make_pairs(name)
    found = []
    for start in range(0, len(pairs), fuzz.BATCH):
        cases, expected = zip(*pairs[start : start + fuzz.BATCH])
        found += run_both(list(cases), list(expected), tmp_path, "-math=dlc")
    wrong = [f"{fuzz.describe(case)}: {text}" for case, text in found if text]
    assert not wrong, f"seed {SEED}: {len(wrong)} of {len(found)} cases differ:\n" + "\n".join(wrong[:5])
    if not found:
        pytest.skip(f"{name} is refused in words")


def test_libm_differs(tmp_path):
    """Negative control: with the C library's functions some bits must be different."""
    rng = np.random.default_rng(SEED)
    cases = [op_cases.Case(op, [op_cases.values(rng, [4000], "float32")]) for op in ("Exp", "Tanh", "Erf")]
    expected = [fuzz.expected_of(case) for case in cases]
    assert any(text for _, text in run_both(cases, expected, tmp_path, "-math=libm"))
    assert not any(text for _, text in run_both(cases, expected, tmp_path, "-math=dlc"))
