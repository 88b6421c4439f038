"""Artifacts for CUDA on the emulated driver: right results end to end, the protocol of calls, errors in words, and nothing
left behind. Work of the emulated device is put off until something waits for it, so a missing wait is a wrong result here."""
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import onnxruntime
import pytest
from cuda_runtime import BUILD, DRIVER, ROOT, TARGET, DeviceArray, Driver, Instance, compile_model, execute, parse

import dlc

MLP = """g (float[n, 20] x) => (float[n, 3] y) <float[20, 24] w, float[24] b, float[24, 3] v> {
    [fc] h = MatMul(x, w)
    [bias] s = Add(h, b)
    [act] r = Relu(s)
    [out] p = MatMul(r, v)
    [prob] y = Softmax <axis = -1> (p)
}"""


def ramp(*shape):
    return ((np.arange(np.prod(shape)) * 7 % 13 - 5) / 4).astype(np.float32).reshape(shape)


def mlp_text():
    """MLP with its weights written out: the parser has no other form for them."""
    def array(*shape):
        return "{" + ",".join(f"{v:.6f}" for v in ramp(*shape).reshape(-1)) + "}"

    return (MLP.replace("float[20, 24] w", f"float[20, 24] w = {array(20, 24)}").replace("float[24] b", f"float[24] b = {array(24)}")
            .replace("float[24, 3] v", f"float[24, 3] v = {array(24, 3)}"))


def reference(text, inputs):
    session = onnxruntime.InferenceSession(parse(text).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs)))


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """Unfused: a launch for each node at least."""
    return compile_model(mlp_text(), str(tmp_path_factory.mktemp("cuda") / "mlp"), "-fuse=off")


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setenv("DLC_CUDA_DRIVER", DRIVER)
    driver = Driver()
    yield driver
    driver.close()
    assert driver.live() == ""


LOOP = """g (int64 m, bool c, float[n] x, float threshold) => (float[n] y, float[n] z) {
    y, z = Loop (m, c, x, x) <body = b (int64 i, bool going, float[n] u, float[n] v) => (bool more, float[n] p, float[n] q) {
        number = CastLike(i, u)
        p = Add(v, number)
        half = Constant <value = float {0.5}> ()
        q = Mul(u, half)
        most = ReduceMax <keepdims = 0> (p)
        more = Less(most, threshold)
    }>
}"""
IF = """g (bool c, float[n, 3] x) => (float[p, 3] y, float[3] s) {
    axis = Constant <value = int64[1] {0}> ()
    y = If (c) <then_branch = t () => (float[p, 3] a) { a = Concat <axis = 0> (x, x, x) },
                else_branch = e () => (float[p, 3] a) { a = ReduceMax(x, axis) }>
    s = ReduceSum <keepdims = 0> (y, axis)
}"""
NONZERO = "g (float[n, 3] x) => (int64[2, k] y, float[3] z) { y = NonZero(x) axis = Constant <value = int64[1] {0}> () z = ReduceMax <keepdims = 0> (x, axis) }"
VIEWS = "g (float[n, 4] x) => (float[m] y, float[n, 4] z) { shape = Constant <value = int64[1] {-1}> () y = Reshape(x, shape) z = Identity(x) }"
CASES = {
    "mlp": (mlp_text(), [[ramp(n, 20)] for n in (1, 7, 64)]),
    "loop": (LOOP, [[np.array(m), np.array(c), ramp(n), np.array(t, np.float32)]
                    for m, c, n, t in ((0, True, 5, 9), (5, False, 5, 9), (4, True, 1, 99), (7, True, 20, 99))]),
    "if": (IF, [[np.array(c), ramp(n, 3)] for n in (1, 17) for c in (True, False)]),
    "nonzero": (NONZERO, [[ramp(n, 3)] for n in (1, 9)] + [[np.zeros((4, 3), np.float32)]]),
    "views": (VIEWS, [[ramp(n, 4)] for n in (1, 5)]),
}


@pytest.mark.parametrize("fuse", ["off", "on"])
@pytest.mark.parametrize("name", list(CASES))
def test_results(name, fuse, driver):
    """Host tensors; one artifact serves all feeds, and a second run meets the first one's memory."""
    text, feeds = CASES[name]
    model = dlc.compile(parse(text), target=TARGET, fuse=fuse)
    for feed in feeds:
        for _ in range(2):
            for got, want in zip(model.run(feed), reference(text, feed), strict=True):
                assert got.dtype == want.dtype and got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert "allocation" in driver.live()  # the control of the fixture's last word
    del model


def test_device_tensors_and_streams(mlp, driver):
    """With a stream and tensors on the device a run does not wait; runs on other streams may use the same memory after it."""
    model = Instance(mlp)
    assert model.status == 0, model.text()
    x, y = ramp(9, 20), DeviceArray(driver, np.zeros((9, 3), np.float32))
    want, = reference(mlp_text(), [x])
    first, second = driver.stream(), driver.stream()
    inputs = [DeviceArray(driver, x), DeviceArray(driver, x[::-1])]
    outputs = [y, DeviceArray(driver, np.zeros((9, 3), np.float32))]
    assert model.run(inputs[:1], outputs[:1], stream=first) == (0, "")
    assert model.run(inputs[1:], outputs[1:], stream=second) == (0, "")
    driver.synchronize(second)
    np.testing.assert_allclose(outputs[1].read(), want[::-1], rtol=1e-5)
    driver.synchronize(first)
    np.testing.assert_allclose(outputs[0].read(), want, rtol=1e-5)
    # Memory of the caller's; a result on the host.
    room = model.workspace(inputs[:1])
    workspace = driver.allocate(room)
    result = np.zeros((9, 3), np.float32)
    assert model.run(inputs[:1], [result], workspace=workspace, workspace_size=room) == (0, "")
    np.testing.assert_allclose(result, want, rtol=1e-5)
    status, text = model.run(inputs[:1], [result], workspace=workspace, workspace_size=64)
    assert status == 6 and "64 bytes" in text
    status, text = model.run(inputs[:1], [result], device_id=1)
    assert status == 4 and "lies on device 1, the model on device 0" in text
    driver.free(workspace)
    for array in inputs + outputs:
        array.free()
    for stream in (first, second):
        driver.call("cuStreamDestroy_v2", stream)
    model.close()


def test_runs_on_two_streams_follow_each_other(mlp):
    """What they share is ordered by an event; the control leaves the wait out, and some order of the streams shows it."""
    def difference(settings):
        done = subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "cuda_runtime.py"), mlp],
                              capture_output=True, text=True, env={**os.environ, "DLC_CUDA_DRIVER": DRIVER, "DLC_EMULATED_CUDA": settings})
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    seeds = range(1, 4)
    assert all(difference(f"seed={seed}") < 1e-6 for seed in seeds)
    assert any(not difference(f"seed={seed},skip=cuStreamWaitEvent:1") < 1e-3 for seed in seeds)


GRAPH_FUNCTIONS = ["cuGraphCreate", "cuGraphAddKernelNode", "cuGraphInstantiateWithFlags", "cuGraphExecKernelNodeSetParams"]


def run_often(mlp, settings=""):
    done = subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "cuda_runtime.py"), mlp, "often"],
                          capture_output=True, text=True, env={**os.environ, "DLC_CUDA_DRIVER": DRIVER, "DLC_EMULATED_CUDA": settings})
    return done, [float(word) for word in done.stdout.split()]


def test_graphs(mlp):
    """From the second run on launches are a graph, made once; other tensors and dims are updates of it."""
    done, (worst, launches, updates, made) = run_often(mlp)
    assert done.returncode == 0, done.stderr
    assert worst < 1e-6 and launches == 5 and updates > 0 and made == 1
    # Controls: the first update of the fourth run, which has more rows than the third, and a launch, left out.
    for skip in (f"cuGraphExecKernelNodeSetParams:{int(updates) // 3 + 1}", "cuGraphLaunch:2"):
        done, found = run_often(mlp, "skip=" + skip)
        assert done.returncode != 0 or not found[0] < 1e-3, skip


@pytest.mark.parametrize("function", GRAPH_FUNCTIONS)
def test_without_graphs_runs_go_on(mlp, function):
    """What the driver refuses of graphs is launched one by one; nothing is left behind."""
    for call in (1, 2):
        done, found = run_often(mlp, f"fail={function}:{call},leaks=on")
        assert done.returncode == 0 and found[0] < 1e-6, done.stderr
        assert "not given back" not in done.stderr, done.stderr


def test_misaligned_device_tensors(driver, mlp):
    """Device tensors may lie anywhere: kernels see aligned copies."""
    x = ramp(9, 20)
    want, = reference(mlp_text(), [x])
    model = Instance(mlp)
    source, target = DeviceArray(driver, np.zeros(9 * 20 + 1, np.float32)), DeviceArray(driver, np.zeros(9 * 3 + 1, np.float32))
    driver.write(source.address + 4, x)
    inside = [DeviceArray.view(driver, source.address + 4, x.shape, x.dtype), DeviceArray.view(driver, target.address + 4, (9, 3), x.dtype)]
    assert model.run(inside[:1], inside[1:]) == (0, "")
    np.testing.assert_allclose(inside[1].read(), want, rtol=1e-5)
    source.free()
    target.free()
    model.close()


def test_a_cpu_model_refuses_device_tensors(driver, tmp_path):
    model = Instance(compile_model(mlp_text(), str(tmp_path / "cpu"), "-target=host"))
    x = DeviceArray(driver, ramp(9, 20))
    status, text = model.run([x], [np.zeros((9, 3), np.float32)])
    assert status == 4 and "expects CPU memory" in text
    x.free()
    model.close()


def test_load_and_unload(mlp, driver):
    """1,000 cycles leave nothing: no memory of the device, no context, none of the process."""
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    x, result = ramp(2, 20), np.zeros((2, 3), np.float32)
    for cycle in range(1000):
        model = Instance(mlp)
        assert model.status == 0, model.text()
        if cycle % 100 == 0:
            assert model.run([x], [result]) == (0, "")
        model.close()
        assert driver.live() == "1 retained context"
        if cycle == 100:
            before = resident()
    assert resident() - before < 64 << 20


def test_concurrent_callers(mlp, driver):
    """Callers of one instance and of several; every one gets its own answer."""
    feeds = [ramp(n, 20) * n for n in (1, 3, 17, 33)]
    wanted = [reference(mlp_text(), [x])[0] for x in feeds]
    shared, problems = Instance(mlp), []

    def work(i):
        own = Instance(mlp)
        result = np.zeros(wanted[i].shape, np.float32)
        for turn in range(20):
            result[:] = 0
            status, text = (shared, own)[turn % 2].run([feeds[i]], [result])
            if status or not np.allclose(result, wanted[i], rtol=1e-5):
                problems.append((i, turn, text))
        own.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.close()
    assert not problems


def test_data_error_names_the_node(driver):
    """Later nodes run on; the first that met invalid data is named, and the next run is right."""
    model = dlc.compile(parse("g (float[4] x, int64[2] i) => (float[2] y) { [pick] a = Gather(x, i) [twice] y = Gather(a, i) }"), target=TARGET)
    for _ in range(2):
        with pytest.raises(dlc.Error, match="index is out of range.*'pick'"):
            model.run([ramp(4), np.array([0, 4])])
        np.testing.assert_array_equal(model.run([ramp(4), np.array([1, 0])])[0], ramp(4)[[0, 1]])
    del model


def test_conformance(tmp_path):
    """A seeded sample of onnx's backend suite, every artifact on the emulated driver: nothing wrong, no crash. (The full tier runs all.)"""
    env = {**os.environ, "DLC_CUDA_DRIVER": DRIVER, "CUDA_HOME": str(tmp_path)}  # no ptxas: PTX is enough here
    done = subprocess.run([sys.executable, os.path.join(ROOT, "utils", "bench", "conformance.py"), "--system", "dlc", "--target", "cuda:sm=80:emulate=on",
                           "--static-params", "--strict", "--sample", "300", "--seed", "8", "--jobs", "2", "--timeout", "120", "--kinds",
                           "node,simple,pytorch-converted,pytorch-operator", "--near-file",
                           os.path.join(ROOT, "utils", "full", "near.txt"), "--json", str(tmp_path / "found.json")],
                          capture_output=True, text=True, env=env, timeout=900)
    assert done.returncode == 0, done.stdout
    with open(tmp_path / "found.json") as file:
        assert json.load(file)["total"].get("pass", 0) >= 250, done.stdout


# ------------------------------------------------------------------------------------------------- failures
def test_no_driver(mlp, tmp_path):
    code, text, _ = execute(mlp, [ramp(2, 20)], tmp_path, DLC_CUDA_DRIVER="/nowhere/libcuda.so.1")
    assert code == 5 and "needs an NVIDIA GPU: the CUDA driver cannot be opened: /nowhere/libcuda.so.1" in text
    # A library that is no driver.
    code, text, _ = execute(mlp, [ramp(2, 20)], tmp_path, DLC_CUDA_DRIVER="libm.so.6")
    assert code == 5 and "has no function 'cu" in text
    done = subprocess.run([os.path.join(BUILD, "bin", "dlc-run"), mlp, "-random=1"], capture_output=True, text=True,
                          env={**os.environ, "DLC_CUDA_DRIVER": "/nowhere"})
    assert done.returncode == 5 and "/nowhere" in done.stderr
    # What a model says of itself needs none.
    done = subprocess.run([os.path.join(BUILD, "bin", "dlc-exec"), mlp, "-info"], capture_output=True, text=True,
                          env={**os.environ, "DLC_CUDA_DRIVER": "/nowhere"})
    assert done.returncode == 0 and '"device_type": 2' in done.stdout


@pytest.mark.parametrize("settings,message", [
    ("devices=0", "CUDA_ERROR_NO_DEVICE"),
    ("sm=75", "was built for .*compute_80 .PTX.; CUDA device 0 .emulated GPU. is sm_75: compile it with -target=cuda:sm=75"),
    ("memory=1000", "bytes of weights: CUDA_ERROR_OUT_OF_MEMORY"),
    ("memory=2600", "no memory for a workspace of .* bytes: CUDA_ERROR_OUT_OF_MEMORY"),
    ("fail=cuLaunchKernel:2", "kernel .[a-z_0-9]+. of node '(bias|act|out|prob)': cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    ("crash=1", "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS.*one of its kernels failed, DLC_CUDA_SYNC=1 tells which"),
])
def test_failures_are_said(mlp, tmp_path, settings, message):
    code, text, _ = execute(mlp, [ramp(2, 20)], tmp_path, settings + ",leaks=on")
    import re

    assert code in (1, 5) and re.search(message, text), text
    assert "not given back" not in text and "the context ends with" not in text


def test_a_crash_is_found_with_sync(mlp, tmp_path):
    code, text, _ = execute(mlp, [ramp(2, 20)], tmp_path, "crash=1", DLC_CUDA_SYNC="1")
    assert code == 1 and "of node 'fc': cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS" in text


FUNCTIONS = ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain",
             "cuCtxPushCurrent_v2", "cuModuleGetFunction", "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD32Async",
             "cuStreamSynchronize", "cuEventCreate", "cuLaunchKernel"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_leaks_whatever_fails(mlp, tmp_path, function):
    """Each call of the driver fails once, the first, the second, ...: an error every time, and all is given back."""
    failed = 0
    # The third push of the context is the destructor's, which then has no way to give anything back.
    for call in range(1, 3 if function == "cuCtxPushCurrent_v2" else 4):
        code, text, _ = execute(mlp, [ramp(2, 20)], tmp_path, f"fail={function}:{call},leaks=on")
        assert "not given back" not in text and "the context ends with" not in text, text
        assert code == 0 or "CUDA_ERROR_" in text, text
        failed += code != 0
        if code == 0:
            break
    assert failed > 0, "the call is never made"


LARGE = '''
g (float16[1160, 88] a, float16[1480, 88] b, float16[1480] c) => (float16[1160, 1480] y) {
  t = Transpose<perm = [1, 0]>(b)
  p = MatMul(a, t)
  s = Add(p, c)
  y = Relu(s)
}
'''


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Enough tiles for wgmma, in dynamic shared memory."""
    return compile_model(LARGE, str(tmp_path_factory.mktemp("large") / "large"), "-target=cuda:sm=90a:emulate=on")


@pytest.mark.parametrize("settings", ["check=2", "sm=80", "sm=120"])
def test_warpgroups_and_their_form_for_other_devices(large, tmp_path, settings):
    """The machine code of sm_90a has wgmma in it; the PTX for others computes the same in the same grids."""
    a, b, c = (ramp(*shape).astype(np.float16) for shape in ((1160, 88), (1480, 88), (1480,)))
    code, text, outputs = execute(large, [a, b, c], tmp_path, settings + ",leaks=on")
    assert code == 0, text
    want = np.maximum(a.astype(np.float32) @ b.astype(np.float32).T + c, 0)
    assert np.abs(outputs[0] - want).max() <= 1e-3 * np.abs(want).max()


def test_large_shared_memory_is_asked_for(large, tmp_path):
    inputs = [np.zeros(shape, np.float16) for shape in ((1160, 88), (1480, 88), (1480,))]
    code, text, _ = execute(large, inputs, tmp_path, "skip=cuFuncSetAttribute:1")
    assert code == 1 and "bytes of dynamic shared memory, of 49152 that it has asked for" in text
    code, text, _ = execute(large, inputs, tmp_path, "fail=cuFuncSetAttribute:1,leaks=on")
    assert code != 0 and "CUDA_ERROR_" in text and "not given back" not in text


def test_the_gate_refuses_what_ptxas_remarks(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, "utils", "full"))
    import check_cuda
    import sass

    launch = {"name": "k", "registers": 200, "spill_store_bytes": 0, "spill_load_bytes": 0}
    report = {"kernels": [{"nest": "contraction", "launches": [launch]}]}
    assert check_cuda.gate(report) == ([], [])
    remark = "(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized"
    assert check_cuda.gate({**report, "assembler_remarks": [remark]}) == ([remark], [])
    # wgmma in the text, and none in the machine code.
    kernel = sass.Kernel("k")
    kernel.code = [(0, "HMMA.16816.F32"), (16, "LDGSTS.E")]
    ptx = {"k": "wgmma.mma_async.sync.aligned.m64n256k16; cp.async.cg"}
    assert len(sass.lint([kernel], ptx)[0]) == 1
    kernel.code = [(0, "HGMMA.64x256x16.F32"), (16, "LDGSTS.E")]
    assert sass.lint([kernel], ptx)[0] == []


SKIPS = ["cuMemcpyHtoDAsync_v2:1", "cuMemcpyHtoDAsync_v2:2", "cuLaunchKernel:1", "cuLaunchKernel:3", "cuMemcpyDtoHAsync_v2:1",
         "cuStreamSynchronize:2"]


@pytest.mark.parametrize("skip", SKIPS)
def test_a_step_left_out_is_seen(mlp, tmp_path, skip):
    """Control of all tests here: weights or input not copied, a launch forgotten, the output not copied, no wait at the end."""
    x = ramp(2, 20)
    want, = reference(mlp_text(), [x])
    code, text, outputs = execute(mlp, [x], tmp_path, "skip=" + skip)
    # Without a wait the output is written when its memory is gone.
    assert code != 0 or not np.allclose(outputs[0], want, rtol=1e-3)


def test_a_status_that_is_not_cleared_is_seen(tmp_path):
    """Control: new memory of the device is full of ones, which are an error where a status word lies."""
    path = compile_model("g (float[4] x, int64[2] i) => (float[2] y) { [pick] y = Gather(x, i) }", str(tmp_path / "gather"))
    inputs = [ramp(4), np.array([1, 0])]
    assert execute(path, inputs, tmp_path)[0] == 0
    code, text, _ = execute(path, inputs, tmp_path, "skip=cuMemsetD32Async:1")
    assert code == 1 and "not valid" in text


@pytest.mark.skipif(not (shutil.which("ptxas") or os.path.exists("/usr/local/cuda/bin/ptxas")), reason="needs ptxas")
def test_fallback(tmp_path):
    """A newer device runs the PTX; without it the machine code is refused in words."""
    x = ramp(2, 20)
    want, = reference(mlp_text(), [x])
    code, text, outputs = execute(compile_model(mlp_text(), str(tmp_path / "on")), [x], tmp_path, "sm=120,check=2")
    assert code == 0, text
    np.testing.assert_allclose(outputs[0], want, rtol=1e-5)
    only = compile_model(mlp_text(), str(tmp_path / "off"), "-fallback=off")
    code, text, outputs = execute(only, [x], tmp_path, "sm=90")
    assert code == 0, text
    code, text, _ = execute(only, [x], tmp_path, "sm=120")
    assert code == 5 and "was built for sm_90; CUDA device 0 (emulated GPU) is sm_120" in text


@pytest.mark.parametrize(("precision", "instruction", "bound"), [("f32", None, 2e-6), ("tf32", "m16n8k8", 2.0**-10 + 2e-6),
                                                                 ("bf16", "m16n8k16", 2.0**-7 + 2e-6)])
def test_precision(precision, instruction, bound, tmp_path, driver):
    """Tensor cores for products of float32 only where -precision admits them; |error| <= bound * sum |a_i b_i| (docs/precision.md), and
    each rounding is felt."""
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((48, 70), (70, 40)))
    text = "g (float[48, 70] x) => (float[48, 40] y) <float[70, 40] w = {%s}> { y = MatMul(x, w) }" % ", ".join(map(repr, map(float, w.ravel())))
    compile_model(text, str(tmp_path / "m"), "-target=cuda:sm=80", "-emit=shared,ptx", "-precision=" + precision)
    with open(tmp_path / "m.ptx") as file:
        ptx = file.read()
    found = [word for word in ("m16n8k8", "m16n8k16") if f"mma.sync.aligned.{word}.row.col.f32" in ptx]
    assert found == ([instruction] if instruction else [])
    [y] = dlc.compile(parse(text), target=TARGET, precision=precision).run([x])
    largest = (np.abs(y - x.astype(np.float64) @ w) / (np.abs(x.astype(np.float64)) @ np.abs(w))).max()
    assert largest <= bound
    assert precision == "f32" or largest > 2e-6


def test_machine_code_is_read():
    """Of the lint of utils/full/sass.py: what it finds, and that it finds nothing in code that is right."""
    sys.path.insert(0, os.path.join(ROOT, "utils", "full"))
    import sass

    text = """
.text.good:
        /*0000*/                   STL [R1], R2 ;
.L_x_1:
        /*0010*/                   LDSM.16.M88.4 R4, [R5] ;
        /*0020*/                   HMMA.16816.F32 R8, R4, R6, R8 ;
        /*0030*/              @!P0 CALL.REL.NOINC `(.L_x_2) ;
        /*0040*/               @P1 BRA `(.L_x_1) ;
.L_x_2:
        /*0050*/                   EXIT ;
.L_x_3:
        /*0060*/                   BRA `(.L_x_3);
"""
    ptx = {"good": "ldmatrix.sync.aligned mma.sync.aligned"}
    assert sass.lint(sass.parse(text), ptx) == ([], [])
    inside = text.replace("LDSM.16.M88.4 R4, [R5]", "LDL R4, [R1]")
    assert sass.lint(sass.parse(inside), {"good": ""})[0] == ["good: 1 accesses of local memory in loops"]
    assert sass.lint(sass.parse(inside), {"good": ""}, may_use_memory={"good"}) == ([], ["good: 1 accesses of local memory in loops"])
    assert "ldmatrix in PTX" in sass.lint(sass.parse(inside), ptx)[0][1]
    slow = text.replace("`(.L_x_2)", "`($__internal_0_$__cuda_sm3x_div_rn)")
    assert sass.lint(sass.parse(slow), ptx) == ([], ["good: 1 calls in loops"])
    assert sass.lint([], ptx)[0] == ["good: not in the machine code"]


@pytest.mark.skipif(not (shutil.which("ptxas") or os.path.exists("/usr/local/cuda/bin/ptxas")), reason="needs ptxas")
def test_static_gate(tmp_path):
    """No spills in contractions, few elsewhere: the report says what ptxas does, and the gate of the full tier judges by it."""
    sys.path.insert(0, os.path.join(ROOT, "utils", "full"))
    from check_cuda import gate

    for sm in ("80", "89", "90a"):
        compile_model(mlp_text(), str(tmp_path / sm), f"-target=cuda:sm={sm}", "-emit=shared,report")
        with open(tmp_path / f"{sm}.json") as file:
            report = json.load(file)
        assert report["sm"] == f"sm_{sm}" and gate(report) == ([], [])
        for kernel in report["kernels"]:
            for launch in kernel["launches"]:
                assert launch["registers"] > 0 and 0 < launch["occupancy"] <= 1
    # Controls: spills in a main loop, too many elsewhere, few elsewhere, and no word of ptxas.
    kernel = report["kernels"][0]
    launch = kernel["launches"][0]
    for nest, spills, sees_loops, refused, noted in (("contraction", 4, False, 1, 0), ("contraction", 4, True, 0, 1), ("contraction", 68, True, 1, 0),
                                                     ("map", 68, False, 1, 0), ("map", 8, False, 0, 1)):
        kernel["nest"], launch["spill_load_bytes"] = nest, spills
        wrong, notes = gate(report, sees_loops)
        assert (len(wrong), len(notes)) == (refused, noted)
    del launch["registers"]
    assert len(gate(report)[0]) == 1
