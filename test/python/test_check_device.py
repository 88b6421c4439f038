"""What is carried to a machine with a GPU and run there, on the emulated driver: skeletons of cases, models beside onnxruntime, the backend
suite through the programs."""
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cuda_runtime import BUILD, DRIVER, ROOT

sys.path.insert(0, os.path.join(ROOT, "utils", "bench"))
import skeleton  # noqa: E402

ENVIRONMENT = {**os.environ, "PATH": os.path.join(os.path.abspath(BUILD), "bin") + os.pathsep + os.environ["PATH"]}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder with one case: a product with weights above what a skeleton keeps, a small scale, indices."""
    random = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("cases")
    weights = random.standard_normal((96, 64)).astype(np.float32)
    initializers = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32([0.5]), "scale"),
                    numpy_helper.from_array(np.int64([3, 1]), "places")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Mul", ["p", "scale"], ["q"]),
             helper.make_node("Gather", ["q", "places"], ["y"], axis=0)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [70, 96])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])], initializers)
    os.makedirs(folder / "one")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "one" / "model.onnx")
    np.save(folder / "one" / "input_0.npy", random.standard_normal((70, 96)).astype(np.float32) + 3)
    return folder


@pytest.fixture(scope="module")
def stripped(cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("skeletons")
    skeleton.strip(cases, out, ["one"])
    return out / "one.npz"


def test_skeletons_keep_what_is_no_random_number(cases, stripped, tmp_path):
    assert stripped.stat().st_size < 4096 < (cases / "one" / "model.onnx").stat().st_size
    first, second = skeleton.fill(stripped, tmp_path / "a"), skeleton.fill(stripped, tmp_path / "b")
    models = [onnx.load(os.path.join(folder, "model.onnx")) for folder in (cases / "one", first, second)]
    for model in models:
        onnx.checker.check_model(model)
    real, filled, again = ([numpy_helper.to_array(i) for i in model.graph.initializer] for model in models)
    assert all(np.array_equal(a, b) for a, b in zip(filled, again))  # equal wherever it is filled
    assert np.array_equal(real[1], filled[1]) and np.array_equal(real[2], filled[2])
    assert not np.array_equal(real[0], filled[0]) and abs(real[0].std() - filled[0].std()) < 0.05
    x = np.load(os.path.join(first, "input_0.npy"))
    assert x.shape == (70, 96) and x.dtype == np.float32 and abs(x.mean() - 3) < 0.1


def check_device(*arguments, code):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "utils", "full", "check_device.py"), f"--driver={DRIVER}", "--target=cuda:sm=80:emulate=on",
                           "--seconds=0", "--jobs=1", *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_models_beside_onnxruntime(cases, stripped, tmp_path):
    pytest.importorskip("onnxruntime")
    text = check_device(stripped, cases / "one", "--json", tmp_path / "found.json", code=0)
    assert "2 right, 0 wrong or failed" in text
    assert all(found["right"] and found["error_max"] < 1e-5 for found in json.loads((tmp_path / "found.json").read_text()))
    # Controls: no such precision; a file that is no model.
    assert "WRONG" in check_device(cases / "one", "--option=-precision=tf32", "--limit=1e-7", code=1)
    (tmp_path / "none").mkdir()
    assert "FAILED dlc: " in check_device(tmp_path / "none", code=1)
    check_device(cases / "one", f"--driver={tmp_path}/none", code=5)


def test_the_suite_through_the_programs(tmp_path):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "utils", "bench", "conformance.py"), "--system", "dlc-exec", "--target", "x86", "--kinds", "node",
                           "--filter", "^test_(relu|argmax_default_axis_example|cast_FLOAT_to_BFLOAT16|sequence_insert_at_back)$",
                           "--json", str(tmp_path / "found.json")], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    statuses = {name: entry["status"] for name, entry in found["results"].items()}
    assert statuses.pop("test_sequence_insert_at_back") == "unsupported"  # no .npy holds a sequence
    assert set(statuses.values()) == {"pass"} and len(statuses) == 3, statuses
