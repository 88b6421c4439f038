"""Kernel libraries for CUDA on the emulated driver: every instance verified by the library's own profiler, the C functions
with streams, the wrapper over arrays of the device, errors in words, and nothing left behind."""
import csv
import importlib
import io
import json
import os
import subprocess
import sys

import models
import numpy as np
import onnx
import pytest
from cuda_runtime import DRIVER, ROOT
from test_kernel_library import MANIFEST, build

TARGET = "cuda:sm=90:emulate=on"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    os.environ["CUDA_HOME"] = str(folder)  # no ptxas: PTX is enough here
    try:
        return build(str(folder), dict(MANIFEST, name="cudalib"), "-target=" + TARGET)
    finally:
        del os.environ["CUDA_HOME"]


@pytest.fixture
def library(folder, monkeypatch):
    monkeypatch.setenv("DLC_CUDA_DRIVER", DRIVER)
    monkeypatch.syspath_prepend(os.path.join(folder, "python"))
    library = importlib.import_module("cudalib")
    yield library
    library.unload()


@pytest.fixture
def device(library):
    device = importlib.import_module("cudalib.device").Device()
    yield device
    library.unload()
    device.close()


def profile(folder, *arguments, **environment):
    done = subprocess.run([sys.executable, "-m", "cudalib.profile", *arguments], capture_output=True, text=True, cwd=folder,
                          env=dict(os.environ, PYTHONPATH=os.path.join(folder, "python"), DLC_CUDA_DRIVER=DRIVER, **environment))
    return done, list(csv.DictReader(io.StringIO(done.stdout)))


def test_every_instance_is_right(folder):
    done, rows = profile(folder, "--verify-only", "--limit=20")
    assert done.returncode == 0, done.stderr
    with open(os.path.join(folder, "share", "dlck", "cudalib.json")) as file:
        table = json.load(file)
    assert table["device"] == "cuda" and [cpu["name"] for cpu in table["cpus"]] == ["sm_90"]
    assert len(rows) == sum(len(op["instances"]) for op in table["operations"])
    assert all(row["verified"] == "yes" and row["control"] == "seen" for row in rows), rows
    assert {op["kind"] for op in table["operations"]} == {op["op"] for op in MANIFEST["operations"]}


def test_a_launch_left_out_is_seen(folder):
    """The control of the test above, besides the profiler's own."""
    done, rows = profile(folder, "--verify-only", "--ops=softmax_f32", DLC_EMULATED_CUDA="skip=cuLaunchKernel:1")
    assert done.returncode == 1 and rows[0]["verified"] == "no", done.stdout


def test_streams_and_what_is_shared(library, device):
    """Calls return before their work is done, also on the default stream; on two streams they need no order."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(9, 24)).astype(np.float32), rng.normal(size=(24, 7)).astype(np.float32)
    x, y = device.put(a), device.put(b)
    before = device.lib.dlcEmulatedCudaCalls
    streams = [device.stream(), device.stream(), None]
    waits, events = before(b"cuStreamSynchronize"), before(b"cuStreamWaitEvent")
    results = [library.matmul_nn_f32(x, y, stream=stream) for stream in streams]
    assert before(b"cuStreamSynchronize") == waits and before(b"cuStreamWaitEvent") == events
    for stream, c in zip(reversed(streams), reversed(results)):
        assert np.allclose(c.numpy(stream), a @ b, atol=1e-5)
    out = device.put(np.zeros((9, 7), np.float32))
    assert library.matmul_nn_f32(x, y, out=out) is out
    assert np.array_equal(out.numpy(), results[0].numpy(streams[0]))
    for stream in streams[:2]:
        device.destroy(stream)


def test_sizes_choose_instances(library, device):
    op = library.operations["matmul_nt_bias_gelu_residual_f32"]
    name = lambda **sizes: op.instances[op.select(**sizes)]["name"]
    assert name(m=1, n=33, k=17) == "m1_n33_k17" and name(m=7, n=40, k=24) == "n40_k24" and name(m=7, n=33, k=17) == "any" and name(m=1, n=9, k=9) == "m1"


def test_segments_and_packed(library, device):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(70, 20)).astype(np.float32), rng.normal(size=(4, 9, 20)).astype(np.float32)
    bias, ends = rng.normal(size=(4, 9)).astype(np.float32), np.array([0, 0, 61, 63, 70])
    places = device.put(a), device.put(b), ends, device.put(bias)
    c = library.grouped_matmul_nt_bias_f32(*places).numpy()
    for g in range(4):
        rows = slice(ends[g], ends[g + 1])
        assert np.allclose(c[rows], a[rows] @ b[g].T + bias[g], atol=1e-4)
    with pytest.raises(library.LibraryError, match="segment 1 ends at row 61, before its begin at 63"):
        library.grouped_matmul_nt_bias_f32(*places[:2], np.array([0, 63, 61, 63, 70]), places[3])
    op = library.matmul_nt_bias_packed_f32
    weights, x = rng.normal(size=(37, 53)).astype(np.float32), rng.normal(size=(5, 53)).astype(np.float32)
    packed = op.pack(device.put(weights))
    zero = device.put(np.zeros(37, np.float32))
    assert np.allclose(op(device.put(x), packed, zero).numpy(), x @ weights.T, atol=1e-4)


def test_errors(library, device, folder):
    x = device.put(np.zeros((3, 4), np.float32))
    with pytest.raises(TypeError, match="'x' lies on the host, the library runs on a device"):
        library.softmax_f32(np.zeros((3, 4), np.float32))
    with pytest.raises(TypeError, match="'x' expects bf16, got <f4"):
        library.softmax_bf16(x)
    with pytest.raises(library.LibraryError, match="softmax_f32: 'y' is NULL"):
        library.softmax_f32.run([3, 4], [x, 0])
    nbits = library.operations["matmul_w4_f32"]
    with pytest.raises(library.LibraryError, match="n is 34, the library was built for 33..33"):
        nbits.run([1, 34, 96], [x] * len(nbits.tensors))
    # An index that is out of range: calls that can meet one wait for their end.
    op = library.operations["rope_f32"]
    sizes = dict(batch=1, heads=3, tokens=2, d=16, positions=5)
    arrays = {t["name"]: np.zeros(op.shape(t, [sizes[n] for n in op.names]), library.DTYPES[t["dtype"]]) for t in op.tensors}
    arrays["at"][...] = 5
    with pytest.raises(library.LibraryError, match="rope_f32: an index is out of range"):
        op.run([sizes[n] for n in op.names], [device.put(arrays[t["name"]]) for t in op.tensors])


@pytest.mark.parametrize("settings,message", [
    ("devices=0", "CUDA_ERROR_NO_DEVICE"),
    ("sm=75", "was built for compute_90 .PTX., compute_80 .PTX.; CUDA device 0 .emulated GPU. is sm_75"),
    ("fail=cuLaunchKernel:1", "softmax_f32: .*cuLaunchKernel: CUDA_ERROR"),
    ("fail=cuModuleLoadDataEx:1:2", "softmax_f32: .*CUDA_ERROR_OUT_OF_MEMORY"),
])
def test_failures_are_said(folder, settings, message):
    import re

    text = "import ctypes, cudalib\ncudalib.softmax_f32.run([1, 1], [4096, 8192])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=os.path.join(folder, "python"), DLC_CUDA_DRIVER=DRIVER, DLC_EMULATED_CUDA=settings))
    assert done.returncode == 1 and re.search(message, done.stderr), done.stderr


def test_nothing_is_left_behind(library):
    device = importlib.import_module("cudalib.device").Device()
    live = lambda: [device.lib.dlcEmulatedCudaLive(text, 256), text.value.decode()][1]
    import ctypes

    text = ctypes.create_string_buffer(256)
    x = device.put(np.ones((2, 3), np.float32))
    y = library.softmax_f32(x)
    assert np.allclose(y.numpy(), 1 / 3) and "module" in live()
    del x, y
    library.unload()
    assert live() == "1 retained context"
    # Loaded again by the next call.
    assert np.allclose(library.softmax_f32(device.put(np.ones((2, 3), np.float32))).numpy(), 1 / 3)
    library.unload()
    device.close()


PROGRAM = """#include "cudac.h"
#include <stdint.h>
#include <stdio.h>
#include <dlfcn.h>
int main(void) {
  void *driver = dlopen(DRIVER, RTLD_NOW);
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
  int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
  int (*push)(void *) = (int (*)(void *))dlsym(driver, "cuCtxPushCurrent_v2");
  int (*make)(uint64_t *, size_t) = (int (*)(uint64_t *, size_t))dlsym(driver, "cuMemAlloc_v2");
  int (*in)(uint64_t, const void *, size_t, void *) = (int (*)(uint64_t, const void *, size_t, void *))dlsym(driver, "cuMemcpyHtoDAsync_v2");
  int (*out)(void *, uint64_t, size_t, void *) = (int (*)(void *, uint64_t, size_t, void *))dlsym(driver, "cuMemcpyDtoHAsync_v2");
  int (*wait)(void *) = (int (*)(void *))dlsym(driver, "cuStreamSynchronize");
  float x[6] = {1, 1, 1, 0, 0, 0}, y[6] = {0};
  uint64_t from, to;
  void *context;
  if (init(0) || retain(&context, 0) || push(context) || make(&from, sizeof x) || make(&to, sizeof y) || in(from, x, sizeof x, NULL))
    return 1;
  if (cudac_softmax_f32(2, 3, (const float *)(uintptr_t)from, (float *)(uintptr_t)to, NULL) != DLC_OK)
    return puts(cudac_last_error()), 2;
  if (out(y, to, sizeof y, NULL) || wait(NULL) || cudac_unload())
    return 3;
  printf("%.4f %.4f\\n", y[0], y[5]);
  return 0;
}
"""


def test_a_c_program(tmp_path):
    """Strict C99 against header and static library, which needs libm and pthread alone."""
    out = build(str(tmp_path), {"schema_version": 1, "name": "cudac", "operations": [{"op": "softmax"}]}, "-target=" + TARGET)
    (tmp_path / "main.c").write_text(PROGRAM)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f'-DDRIVER="{DRIVER}"', "-I" + os.path.join(out, "include")]
    subprocess.run(["cc", *flags, str(tmp_path / "main.c"), os.path.join(out, "lib", "libcudac.a"), "-lm", "-lpthread", "-o",
                    str(tmp_path / "main")], check=True)
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, env=dict(os.environ, DLC_CUDA_DRIVER=DRIVER))
    assert done.returncode == 0 and done.stdout == "0.3333 0.3333\n", done.stdout + done.stderr


def test_ptxas_says_what_it_found(tmp_path):
    import shutil

    if not (shutil.which("ptxas") or os.path.exists("/usr/local/cuda/bin/ptxas")):
        pytest.skip("needs ptxas")
    sys.path.insert(0, os.path.join(ROOT, "utils", "full"))
    from check_cuda import gate_library

    manifest = {"schema_version": 1, "name": "gated", "level": 0, "operations": [
        {"op": "matmul", "layouts": ["nt"], "dtypes": ["f32", "bf16"]}, {"op": "softmax"}]}
    out = build(str(tmp_path), manifest, "-target=cuda:sm=90a,cuda:sm=80")
    with open(os.path.join(out, "share", "dlck", "gated.json")) as file:
        table = json.load(file)
    assert [cpu["name"] for cpu in table["cpus"]] == ["sm_90a", "sm_80"] and all(len(op["instances"]) == 2 for op in table["operations"])
    wrong, _, launches = gate_library(table)
    assert wrong == [] and launches >= 6
    # The control: spills in a main loop, or out of it: nobody reads where.
    table["operations"][0]["instances"][0]["device_kernels"][0]["launches"][0]["spill_load_bytes"] = 4
    assert len(gate_library(table)[0]) == 1


def test_the_kernels_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("DLC_CUDA_DRIVER", DRIVER)
    path, reference = models.mlp(tmp_path / "mlp.onnx")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    done = subprocess.run(["dlc", str(path), "-emit=kernel-library", "-target=" + TARGET, "-name=cudamlp", "-q", "-o", str(tmp_path / "out")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(tmp_path / "out" / "python"))
    library = importlib.import_module("cudamlp")
    device = importlib.import_module("cudamlp.device").Device()
    x = np.random.default_rng(2).normal(size=(5, 33)).astype(np.float32)
    value = device.put(x)
    for op in library.operations.values():  # in the model's order
        rest = [w for shape in [op.shape(t, [5]) for t in op.inputs[1:]] for w in weights.values() if w.shape == shape]
        value = op(value, *[device.put(w) for w in rest])
    assert np.abs(value.numpy() - reference(x)).max() < 1e-5 * max(1, np.abs(reference(x)).max())
    del value
    library.unload()
    device.close()
