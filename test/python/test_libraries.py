"""The nest `library`: kernels that oneDNN computes (-libraries=). Most of it with a stand-in for the library, in which faults can
be planted; some with oneDNN itself, where it is installed."""
import ctypes
import glob
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))


def run(*args, env=None, check=True):
    return subprocess.run([str(a) for a in args], check=check, capture_output=True, text=True, env={**os.environ, **(env or {})})


def build_fake(path, *flags):
    run("cc", "-O2", "-shared", "-fPIC", *flags, os.path.join(HERE, "fake_onednn.c"), "-o", path)
    return str(path)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return build_fake(tmp_path_factory.mktemp("fake") / "libfake.so")


def onednn():
    """The library of the package onednn-cpu-gomp, or what $DLC_ONEDNN names."""
    named = os.environ.get("DLC_ONEDNN")
    found = [named] if named else glob.glob(os.path.join(sys.prefix, "lib", "libdnnl.so.3"))
    return found[0] if found else None


needs_onednn = pytest.mark.skipif(onednn() is None, reason="no oneDNN (package onednn-cpu-gomp)")


# ---------------------------------------------------------------------------------------------------------------------
# Cases: name -> (nodes, {input: shape}, {weight: shape}, does a library have it?)

def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, **attributes)


def conv(shape, weights, bias=True, residual=False, relu=False, **attributes):
    nodes = [node("Conv", ["x", "w"] + (["b"] if bias else []), ["c"], **attributes)]
    last, inputs, constants = "c", {"x": shape}, {"w": weights}
    if bias:
        constants["b"] = [weights[0]]
    if residual:
        nodes.append(node("Add", [last, "r"], ["d"]))
        last, inputs["r"] = "d", residual
    if relu:
        nodes.append(node("Relu", [last], ["e"]))
        last = "e"
    nodes[-1].output[0] = "y"
    return nodes, inputs, constants, True


CASES = {
    "matmul": ([node("MatMul", ["x", "w"], ["y"])], {"x": [37, 65]}, {"w": [65, 70]}, True),
    "one_row": ([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 130]}, {"w": [130, 150]}, True),
    "one_column": ([node("MatMul", ["x", "w"], ["y"])], {"x": [20, 33]}, {"w": [33, 1]}, True),
    "bias_gelu": ([node("MatMul", ["x", "w"], ["c"]), node("Add", ["c", "b"], ["d"]), node("Tanh", ["d"], ["y"])],
                  {"x": [2, 19, 64]}, {"w": [64, 48], "b": [48]}, True),
    "both_inputs": ([node("MatMul", ["x", "z"], ["y"])], {"x": [4, 12, 24], "z": [4, 24, 40]}, {}, True),
    "transposed": ([node("Transpose", ["z"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])],
                   {"x": [3, 12, 24], "z": [3, 40, 24]}, {}, True),
    "gemm_transposed": ([node("Gemm", ["x", "w", "b"], ["y"], transA=1, transB=1, alpha=0.5)], {"x": [24, 17]},
                        {"w": [31, 24], "b": [31]}, True),
    "two_results": ([node("MatMul", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"])], {"x": [33, 16]}, {"w": [16, 24]}, True),
    "conv": conv([1, 6, 14, 15], [10, 6, 3, 3], pads=[1, 1, 1, 1]),
    "conv_stride": conv([1, 5, 15, 14], [12, 5, 3, 3], relu=True, pads=[1, 1, 1, 1], strides=[2, 2]),
    "conv_uneven": conv([1, 4, 13, 17], [9, 4, 5, 2], pads=[2, 0, 1, 1], strides=[1, 2]),
    "conv_dilated": conv([1, 4, 16, 16], [8, 4, 3, 3], pads=[2, 2, 2, 2], dilations=[2, 2]),
    "conv_leaves_out": conv([1, 4, 12, 12], [8, 4, 1, 1], bias=False, strides=[2, 2]),
    "conv_7x7": conv([1, 3, 23, 23], [16, 3, 7, 7], relu=True, pads=[3, 3, 3, 3], strides=[2, 2]),
    "conv_batch": conv([3, 4, 9, 9], [8, 4, 3, 3], residual=[3, 8, 9, 9], relu=True, pads=[1, 1, 1, 1]),
    "conv_1x1": conv([1, 16, 9, 9], [24, 16, 1, 1], residual=[1, 24, 9, 9], relu=True),
    "grouped": conv([1, 8, 9, 9], [8, 4, 3, 3], group=2)[:3] + (False,),
    "softmax": ([node("Softmax", ["x"], ["y"])], {"x": [8, 16]}, {}, False),
    "doubles": ([node("Cast", ["x"], ["h"], to=TensorProto.DOUBLE), node("MatMul", ["h", "h"], ["c"]),
                 node("Cast", ["c"], ["y"], to=TensorProto.FLOAT)], {"x": [16, 16]}, {}, False),
}


def save_case(name, folder):
    nodes, inputs, constants, has = CASES[name]
    rng = np.random.default_rng(len(name))
    weights = [numpy_helper.from_array((rng.standard_normal(s) / 4).astype(np.float32), n) for n, s in constants.items()]
    outputs = ["y", "z"] if name == "two_results" else ["y"]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
                              [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs], weights)
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    path = os.path.join(folder, name + ".onnx")
    onnx.save(model, path)
    return path, has


def nests_of(report):
    return [kernel["nest"] for kernel in json.load(open(report))["kernels"]]


def check_case(name, folder, library, *flags):
    path, has = save_case(name, folder)
    out = os.path.join(folder, "m.so")
    run("dlc", path, "-libraries=all", "-emit=shared,report", "-verify", "-q", "-o", out, *flags, env={"DLC_ONEDNN": library})
    assert ("library" in nests_of(os.path.join(folder, "m.json"))) == has
    return out


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", ["auto", "asis"])
@pytest.mark.parametrize("name", CASES)
def test_results(name, layout, threads, fake, tmp_path):
    if layout == "asis" and not name.startswith("conv"):
        pytest.skip("layouts are of convolutions")
    log = tmp_path / "log"
    os.environ["FAKE_ONEDNN_LOG"] = str(log)
    try:
        check_case(name, str(tmp_path), fake, f"-layout={layout}", f"-target=host:threads={threads}")
    finally:
        del os.environ["FAKE_ONEDNN_LOG"]
    # The library computed it, by the words that fit.
    kinds = set(log.read_text().split()) if log.exists() else set()
    expected = {"convolution"} if name.startswith("conv") and name != "conv_1x1" else {"matmul"}
    assert kinds == (expected if CASES[name][3] else set())


@pytest.mark.parametrize("fault", ["wrong", "over"])
def test_verify_finds_a_wrong_library(fault, fake, tmp_path):
    path, _ = save_case("bias_gelu", str(tmp_path))
    result = run("dlc", path, "-libraries=all", "-verify", "-q", "-o", tmp_path / "m.so", check=False,
                 env={"DLC_ONEDNN": fake, "FAKE_ONEDNN_FAULT": fault})
    assert result.returncode == (4 if fault == "wrong" else result.returncode)


def load_error(model, env):
    result = run("dlc-run", model, "-random=1", env=env, check=False)
    return result.returncode, result.stderr


def test_artifact_without_its_library(fake, tmp_path):
    """An artifact that calls a library says so when the library is not there, and never computes something else."""
    out = check_case("matmul", str(tmp_path), fake)
    code, text = load_error(out, {"DLC_ONEDNN": str(tmp_path / "none.so")})
    assert code != 0 and "was compiled with -libraries=on: oneDNN cannot be opened" in text and "none.so" in text
    code, text = load_error(out, {"DLC_ONEDNN": build_fake(tmp_path / "old.so", "-DMAJOR=2")})
    assert code != 0 and "is oneDNN 2.7: 3 is needed" in text
    code, text = load_error(out, {"DLC_ONEDNN": build_fake(tmp_path / "part.so", "-DNO_CONVOLUTION")})
    assert code != 0 and "has no function 'dnnl_convolution_forward_primitive_desc_create'" in text
    code, text = load_error(out, {"DLC_ONEDNN": build_fake(tmp_path / "tbb.so", "-DRUNTIME=4")})
    assert code != 0 and "has threads of its own" in text
    code, text = load_error(out, {"DLC_ONEDNN": fake, "FAKE_ONEDNN_FAULT": "refuse"})
    assert code != 0 and "kernel 'matmul_" in text and "oneDNN has no such product" in text
    code, text = load_error(out, {"DLC_ONEDNN": fake, "FAKE_ONEDNN_FAULT": "fail"})
    assert code != 0 and "a library that computes a kernel fails" in text
    assert load_error(out, {"DLC_ONEDNN": fake})[0] == 0


def test_instances_keep_their_own_weights(fake, tmp_path, monkeypatch):
    """What is kept of weights goes with the last instance that has them: other weights may come to lie at the same address."""
    import dlc
    monkeypatch.setenv("DLC_ONEDNN", fake)
    path, _ = save_case("matmul", str(tmp_path))
    out, file = tmp_path / "m.so", tmp_path / "m.weights"
    run("dlc", path, "-libraries=all", "-weights=external", "-q", "-o", out)
    loaded = ctypes.CDLL(str(out))  # the module, and with it the runtime's state, stays
    x = np.random.default_rng(0).standard_normal((37, 65)).astype(np.float32)
    w = numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    original = file.read_bytes()
    assert original.count(w.tobytes()) == 1
    for scale in (1, 2, 4, 8):
        scaled = (w * np.float32(scale)).astype(np.float32)
        os.remove(file)
        file.write_bytes(original.replace(w.tobytes(), scaled.tobytes()))
        models = [dlc.load(str(out)) for _ in range(2)]
        for model in models:
            np.testing.assert_allclose(model(x), x @ scaled, rtol=1e-4, atol=1e-3)
        # One goes, the other still has its weights.
        del models[0], model
        np.testing.assert_allclose(models[0](x), x @ scaled, rtol=1e-4, atol=1e-3)
        del models
    assert loaded


# ---------------------------------------------------------------------------------------------------------------------
# The tuner

def tune(folder, fake, fault="", budget=6, name="bias_gelu", flags=("-libraries=on",), check=True):
    path, _ = save_case(name, str(folder))
    db = os.path.join(folder, "t.db")
    result = run("dlc", path, "-tune", f"-tune-budget={budget}", f"-tuning-db={db}", "-target=host:threads=1", "-emit=shared,report",
                 "-o", os.path.join(folder, "m.so"), *flags, check=check, env={"DLC_ONEDNN": fake, "FAKE_ONEDNN_FAULT": fault})
    return result, db


def records_of(db, folder):
    out = os.path.join(folder, "r.jsonl")
    run("dlc-tune", "export", f"-store={db}", "-o", out)
    return [json.loads(line) for line in open(out)]


@pytest.mark.parametrize("fault,status", [("", "ok"), ("wrong", "wrong"), ("late", "wrong"), ("crash", "crash"), ("hang", "timeout"),
                                          ("over", "wrong"), ("refuse", "compile"), ("fail", "compile")])
def test_faults_of_a_library_are_results(fault, status, fake, tmp_path):
    result, db = tune(tmp_path, fake, fault)
    records = records_of(db, tmp_path)
    library = [r for r in records if r["schedule"]["nest"] == "library"]
    assert {r["trial"]["status"] for r in library} == {status}, [r["trial"].get("reason") for r in library]
    assert all(r["schedule"]["onednn"] == 30701 for r in library)
    others = [r for r in records if r["schedule"]["nest"] != "library"]
    assert len(others) >= 4 and {r["trial"]["status"] for r in others} == {"ok"}
    # Plain loops are never the fastest.
    assert nests_of(tmp_path / "m.json") == ["contraction"]


def test_lookup_takes_a_library_only_when_it_may(fake, tmp_path):
    _, db = tune(tmp_path, fake)
    records = records_of(db, tmp_path)
    ours = [r for r in records if r["schedule"]["nest"] == "contraction"]
    # Someone else's machine, on which the library was twice as fast.
    fast = next(json.loads(json.dumps(r)) for r in records if r["schedule"]["nest"] == "library" and r["trial"]["attempt"] == 1)
    fast["trial"].update(run="elsewhere", samples_ns=[50.0] * 9, reference_ns=[100.0] * 9)
    file, other = tmp_path / "in.jsonl", tmp_path / "other.db"
    file.write_text("".join(json.dumps(r) + "\n" for r in ours + [fast]))
    run("dlc-tune", "import", file, f"-store={other}")
    path = tmp_path / "bias_gelu.onnx"

    def nests(*flags, env=None):
        run("dlc", path, "-tune=lookup", f"-tuning-db={other}", "-target=host:threads=1", "-emit=shared,report", "-q", "-o",
            tmp_path / "l.so", *flags, env=env)
        return nests_of(tmp_path / "l.json")
    assert nests() == ["contraction"]
    assert nests("-libraries=off") == ["contraction"]
    # Lookup needs no library on this machine; the artifact says what it was made with.
    assert nests("-libraries=on", env={"DLC_ONEDNN": "/nowhere.so"}) == ["library"]
    first = (tmp_path / "l.so").read_bytes()
    assert nests("-libraries=on") == ["library"] and (tmp_path / "l.so").read_bytes() == first
    assert run("dlc-run", tmp_path / "l.so", "-random=1", env={"DLC_ONEDNN": fake}).returncode == 0
    # An open gap of our nests; without a library's records there is none.
    text = run("dlc-tune", "eval", "-gaps", file).stdout
    assert "open gaps of our nests: 1" in text and "oneDNN 3.7.1" in text and "measured on 1 kernels" in text
    file.write_text("".join(json.dumps(r) + "\n" for r in ours))
    result = run("dlc-tune", "eval", "-gaps", file, check=False)
    assert result.returncode != 0 and "no library was measured" in result.stderr
    # A library that is slower is no gap.
    slow = json.loads(json.dumps(fast))
    slow["trial"].update(samples_ns=[200.0] * 9)
    file.write_text("".join(json.dumps(r) + "\n" for r in ours + [slow]))
    assert "open gaps of our nests: 0" in run("dlc-tune", "eval", "-gaps", file).stdout


def test_tuning_without_the_library_is_refused(tmp_path):
    result, _ = tune(tmp_path, str(tmp_path / "none.so"), check=False)
    assert result.returncode != 0 and "-libraries=on: oneDNN cannot be opened" in result.stderr


def test_usage(tmp_path):
    path, _ = save_case("matmul", str(tmp_path))
    for flags, text in ((["-libraries=on"], "is for -tune"), (["-libraries=on", "-tune=lookup", "-fp=strict"], "-fp=strict"),
                        (["-libraries=maybe"], "expected one of")):
        result = run("dlc", path, "-o", tmp_path / "m.so", *flags, check=False)
        assert result.returncode == 2 and text in result.stderr, result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# oneDNN itself

@needs_onednn
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[3]])
def test_onednn_results(name, tmp_path):
    check_case(name, str(tmp_path), onednn(), "-target=host:threads=2")


@needs_onednn
def test_onednn_bf16(tmp_path):
    """Factors that lie in memory as bf16, sums of float32."""
    out, path = os.path.join(tmp_path, "m.so"), os.path.join(tmp_path, "m.onnx")
    bf16, f32 = TensorProto.BFLOAT16, TensorProto.FLOAT
    w = np.random.default_rng(1).standard_normal((64, 48)).astype(np.float32).view(np.uint32) >> 16
    weights = helper.make_tensor("w", bf16, [64, 48], w.astype(np.uint16).tobytes(), raw=True)
    nodes = [node("Cast", ["x"], ["a"], to=f32), node("Cast", ["w"], ["b"], to=f32), node("MatMul", ["a", "b"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", bf16, [32, 64])],
                              [helper.make_tensor_value_info("y", f32, [32, 48])], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    run("dlc", path, "-libraries=all", "-emit=shared,report", "-verify", "-q", "-o", out,
        env={"DLC_ONEDNN": onednn()})
    assert "library" in nests_of(os.path.join(tmp_path, "m.json"))


@needs_onednn
def test_onednn_is_measured(tmp_path):
    _, db = tune(tmp_path, onednn(), name="conv_7x7")
    library = [r for r in records_of(db, tmp_path) if r["schedule"]["nest"] == "library"]
    assert {r["trial"]["status"] for r in library} == {"ok"} and library[0]["schedule"]["onednn"] >= 30000
    assert "measured on 1 kernels" in run("dlc-tune", "eval", "-gaps", f"-store={db}").stdout
