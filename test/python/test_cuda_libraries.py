"""Artifacts for CUDA that call cuBLAS and cuDNN (-libraries=on): stand-ins for them on the emulated driver, whose times are made up in the records."""
import json
import os
import re
import subprocess
import sys

import pytest

from cuda_runtime import DRIVER
from test_cuda_search import HERE, TARGET, save, tool, trials

# What cuBLAS computes: every order of factors, batches (of one right factor, too), types; alone, or with our kernels behind it (and before it).
PRODUCTS = {
    "plain": "(float[40, 24] a, float[24, 36] b) => (float[40, 36] y) { y = MatMul(a, b) }",
    "turned": "(float[24, 40] a, float[36, 24] b) => (float[40, 36] y) { c = Transpose <perm = [1, 0]> (a) d = Transpose <perm = [1, 0]> (b) y = MatMul(c, d) }",
    "batch": "(float16[3, 40, 24] a, float16[3, 24, 40] b) => (float16[3, 40, 40] y) { y = MatMul(a, b) }",
    "shared": "(bfloat16[3, 40, 24] a, bfloat16[24, 40] b) => (bfloat16[3, 40, 40] y) { y = MatMul(a, b) }",
    "gelu": "(float[40, 24] a, float[24, 36] b, float[36] c) => (float[40, 36] y) { p = MatMul(a, b) q = Add(p, c) y = Gelu(q) }",
    "half gelu": "(float16[40, 24] a, float16[24, 36] b, float16[36] c) => (float16[40, 36] y) { p = MatMul(a, b) q = Add(p, c) y = Gelu(q) }",
    "turned result": "(float[5, 40, 24] a, float[5, 24, 36] b) => (float[40, 5, 36] y) { p = MatMul(a, b) y = Transpose <perm = [1, 0, 2]> (p) }",
    "scores": "(float[2, 40, 16] q, float[2, 16, 40] k, float[2, 40, 16] v) => (float[2, 40, 16] y) { s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v) }",
    "both results": "(float[40, 24] a, float[24, 36] b) => (float[40, 36] p, float[40, 36] y) { p = MatMul(a, b) y = Tanh(p) }",
}
# Of cuDNN, convolutions.
CONVOLUTIONS = {
    "3x3": "(float[2, 5, 9, 11] x, float[20, 5, 3, 3] w) => (float[2, 20, 9, 11] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }",
    "strides": "(float16[1, 6, 9, 12] x, float16[20, 6, 3, 2] w) => (float16[1, 20, 5, 6] y) { y = Conv <pads = [1, 0, 1, 0], strides = [2, 2]> (x, w) }",
    "dilations": "(float[1, 6, 12, 12] x, float[20, 6, 3, 3] w) => (float[1, 20, 8, 8] y) { y = Conv <dilations = [2, 2]> (x, w) }",
    "bias, residual": "(float[2, 5, 9, 11] x, float[20, 5, 3, 3] w, float[20] b, float[2, 20, 9, 11] r) => (float[2, 20, 9, 11] y)"
                      " { c = Conv <pads = [1, 1, 1, 1]> (x, w, b) s = Add(c, r) y = Relu(s) }",
}
OURS = {  # and why
    "map": ("(float[40, 24] a) => (float[40, 24] y) { y = Tanh(a) }", "it has no sum of products"),
    "computed": ("(float[40, 24] a, uint8[24, 36] b, float[24] s) => (float[40, 36] y) { c = DequantizeLinear <axis = 0> (b, s) y = MatMul(a, c) }", "a factor is computed"),
    "groups": ("(float[1, 6, 9, 9] x, float[20, 3, 3, 3] w) => (float[1, 20, 7, 7] y) { y = Conv <group = 2> (x, w) }", "as a convolution: "),
    "one end": ("(float[1, 6, 9, 9] x, float[20, 6, 3, 3] w) => (float[1, 20, 9, 9] y) { y = Conv <pads = [0, 0, 2, 2]> (x, w) }", "its padding differs at both ends"),
    "half relu": ("(float16[1, 6, 9, 9] x, float16[20, 6, 3, 3] w) => (float16[1, 20, 7, 7] y) { c = Conv(x, w) y = Relu(c) }", "it has no convolutions of these types"),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("library") / "libfake.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_cuda_libraries.c"), "-o", path, "-ldl"], check=True)
    return {"DLC_CUBLAS": path, "DLC_CUDNN": path, "FAKE_CUDA_DRIVER": DRIVER}


def make_faster(store, folder):
    """A database in which the library takes a tenth of the default's time."""
    edited = []
    for line in trials(store, folder):
        if line["schedule"]["nest"] == "library":
            line["trial"].update(run="edited", attempt=3, samples_ns=[x / 10 for x in line["trial"]["reference_ns"]])
            edited.append(json.dumps(line) + "\n")
    (folder / "edited.jsonl").write_text("".join(edited))
    tool("dlc-tune", "import", folder / "edited.jsonl", f"-store={folder / 'fast.db'}")
    return folder / "fast.db"


VERSIONS = {"cublas": 130102, "cudnn": 80907}


def compile_with_library(text, folder, library, name="cublas"):
    """The artifact that calls it, by a search that measures it and a lookup of what says that it is faster."""
    model, store = save(text, folder / "m.onnx"), folder / "t.db"
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=quick", "-libraries=on", f"-tuning-db={store}", "-v", "-o", folder / "m.so", **HERE, **library)
    found = [line for line in trials(store, folder) if line["schedule"]["nest"] == "library"]
    assert found and all(line["trial"]["status"] == "ok" and line["schedule"] == {"nest": "library", name: VERSIONS[name]} for line in found), errors
    fast = make_faster(store, folder)
    look = [model, f"-target={TARGET}", "-tune=lookup", f"-tuning-db={fast}", "-o", folder / "m.so"]
    _, errors = tool("dlc", *look)
    assert "0 of 1 kernels have a schedule" in errors  # off unless asked for
    _, errors = tool("dlc", *look, "-libraries=on", "-emit=shared,report")
    assert "1 of 1 kernels have a schedule" in errors
    assert '"nest": "library"' in (folder / "m.json").read_text()
    return model, str(folder / "m.so")


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, library, tmp_path):
    model, artifact = compile_with_library(PRODUCTS[name], tmp_path, library)
    tool("dlc-run", artifact, "-random=1", f"-compare={model}", **HERE, **library)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, library, tmp_path):
    model, artifact = compile_with_library(CONVOLUTIONS[name], tmp_path, library, "cudnn")
    tool("dlc-run", artifact, "-random=1", f"-compare={model}", **HERE, **library)


@pytest.mark.parametrize("name", OURS)
def test_what_no_library_has_is_ours(name, library, tmp_path):
    text, reason = OURS[name]
    model, store = save(text, tmp_path / "m.onnx"), tmp_path / "t.db"
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=quick", "-libraries=on", f"-tuning-db={store}", "-v", "-o", tmp_path / "m.so", **HERE, **library)
    found = [line for line in trials(store, tmp_path) if line["schedule"]["nest"] == "library"]
    assert not found, found
    if reason:
        assert re.search(f"no library is a candidate: .*{re.escape(reason)}", errors), errors


def test_each_library_is_asked_for_by_itself(library, tmp_path):
    """Where one is missing the other is a candidate; an artifact needs those that it calls."""
    model, store = save(CONVOLUTIONS["3x3"], tmp_path / "c.onnx"), tmp_path / "c.db"
    missing = {**library, "DLC_CUDNN": str(tmp_path / "none.so")}
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=quick", "-libraries=on", f"-tuning-db={store}", "-v", "-o", tmp_path / "c.so", **HERE, **missing)
    assert "no library is a candidate: the library of such sums (cudnn) is not there" in errors
    model, artifact = compile_with_library(CONVOLUTIONS["3x3"], tmp_path, library, "cudnn")
    tool("dlc-run", artifact, "-random=1", f"-compare={model}", DLC_CUBLAS=str(tmp_path / "none.so"), DLC_CUDNN=library["DLC_CUDNN"], FAKE_CUDA_DRIVER=DRIVER, **HERE)
    _, errors = tool("dlc-run", artifact, "-random=1", f"-compare={model}", code=1, **HERE, **missing)
    assert "was compiled with -libraries=on: cuDNN cannot be opened: " in errors
    # It has no algorithm with the memory that the kernel gives it.
    _, errors = tool("dlc-run", artifact, "-random=1", f"-compare={model}", code=1, FAKE_CUDA_FAULT="greedy", **HERE, **library)
    assert re.search(r"kernel '\w+': cuDNN has no algorithm for the convolution that takes no more than 33554432 bytes", errors)


def test_missing_refusing_and_wrong_libraries(library, tmp_path):
    model, artifact = compile_with_library(PRODUCTS["plain"], tmp_path, library)
    inputs = ["-random=1", f"-compare={model}"]
    _, errors = tool("dlc-run", artifact, *inputs, code=1, DLC_CUBLAS=str(tmp_path / "none.so"), **HERE)
    assert "was compiled with -libraries=on: cuBLAS cannot be opened: " in errors and "none.so" in errors
    _, errors = tool("dlc-run", artifact, *inputs, code=1, DLC_CUBLAS="libm.so.6", **HERE)
    assert "cuBLAS: it has no function 'cublas" in errors
    # Of a search: without the library nothing begins; one that is wrong or refuses is recorded and not taken.
    search = [model, f"-target={TARGET}", "-tune=quick", "-libraries=on", "-o", tmp_path / "n.so"]
    _, errors = tool("dlc", *search, f"-tuning-db={tmp_path / 'none.db'}", code=5, DLC_CUBLAS=str(tmp_path / "none.so"), DLC_CUDNN=str(tmp_path / "none.so"), **HERE)
    assert re.search("-libraries=on: cuBLAS cannot be opened.*; cuDNN cannot be opened", errors)
    for fault, message in (("wrong", "max|a-b|/max|b| beside the interpreter's"), ("refuse", "cublasGemmStridedBatchedEx: 7")):
        store = tmp_path / f"{fault}.db"
        _, errors = tool("dlc", *search, f"-tuning-db={store}", "-v", FAKE_CUDA_FAULT=fault, **HERE, **library)
        failed = [line["trial"] for line in trials(store, tmp_path) if line["schedule"]["nest"] == "library"]
        assert len(failed) == 1 and failed[0]["status"] != "ok" and message in failed[0]["reason"], failed
        text, _ = tool("dlc", model, f"-target={TARGET}", "-tune=lookup", "-libraries=on", f"-tuning-db={store}", "-emit=kernels", "-o", "-", "-q")
        assert '"library"' not in text


STREAMS = """
import sys
import numpy as np
from cuda_runtime import DeviceArray, Driver, Instance
driver = Driver()
model = Instance(sys.argv[1])
assert model.status == 0, model.text()
feeds = [[np.random.default_rng(i).standard_normal(shape).astype(np.float32) for shape in ((40, 24), (24, 36), (40, 36))] for i in range(3)]
worst = 0
for turn in range(2):
    for feed in feeds:
        stream = driver.stream()
        inputs, output = [DeviceArray(driver, x) for x in feed], DeviceArray(driver, np.zeros((40, 36), np.float32))
        assert model.run(inputs, [output], stream=stream) == (0, "")
        driver.synchronize(stream)
        worst = max(worst, float(np.abs(output.read() - np.tanh(np.tanh(feed[0]) @ feed[1] * feed[2])).max()))
print(worst, driver.calls("cuGraphLaunch"))
"""


def test_order_among_other_kernels_on_a_stream(library, tmp_path):
    """A kernel before and one behind, on streams of the caller's that wait for nothing else; no graph."""
    model = save("(float[40, 24] a, float[24, 36] b, float[40, 36] c) => (float[40, 36] y) { t = Tanh(a) p = MatMul(t, b) q = Mul(p, c) y = Tanh(q) }", tmp_path / "m.onnx")
    store = tmp_path / "t.db"
    flags = [model, f"-target={TARGET}", "-fuse=off", "-libraries=on", "-o", tmp_path / "m.so"]
    tool("dlc", *flags, "-tune=quick", f"-tuning-db={store}", "-q", **HERE, **library)
    _, errors = tool("dlc", *flags, "-tune=lookup", f"-tuning-db={make_faster(store, tmp_path)}")
    assert re.search(r"1 of \d kernels have a schedule", errors)
    (tmp_path / "run.py").write_text(STREAMS)
    done = subprocess.run([sys.executable, tmp_path / "run.py", tmp_path / "m.so"], capture_output=True, text=True,
                          env={**os.environ, **HERE, **library, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))})
    assert done.returncode == 0, done.stderr
    worst, graphs = done.stdout.split()
    assert float(worst) < 1e-5 and int(graphs) == 0
