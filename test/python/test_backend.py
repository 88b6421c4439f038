"""dlc.backend: onnx's backend interface, onnx's own test runner over it, and a node by itself."""

import unittest

import numpy as np
import onnx
import onnx.backend.base
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

import dlc
import dlc.backend
import models


@pytest.fixture(scope="module")
def add(tmp_path_factory):
    path = models.save(tmp_path_factory.mktemp("add") / "add.onnx", [helper.make_node("Add", ["a", "b"], ["c"])],
                       [models.value("a", ["n", 4]), models.value("b", [4])], [models.value("c", ["n", 4])])
    return onnx.load(path)


def test_it_is_an_onnx_backend():
    assert issubclass(dlc.backend.Backend, onnx.backend.base.Backend)
    assert dlc.backend.supports_device("CPU") and not dlc.backend.supports_device("CUDA")
    with pytest.raises(dlc.ToolError):
        dlc.backend.prepare(onnx.ModelProto(), device="CUDA")


def test_prepare_and_run(add):
    rep = dlc.backend.prepare(add)
    a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones(4, np.float32)
    for outputs in (rep.run([a, b]), rep.run({"a": a, "b": b}), dlc.backend.run_model(add, [a, b])):
        assert np.array_equal(outputs[0], a + b) and np.array_equal(outputs["c"], a + b)
    assert not np.array_equal(rep.run([a, b])[0], a)


@pytest.mark.parametrize("opset", [13, None])
def test_run_node(opset):
    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    y, = dlc.backend.run_node(node, [x], opset_version=opset)
    e = np.exp(x - x.max(-1, keepdims=True))
    assert np.allclose(y, e / e.sum(-1, keepdims=True), atol=1e-6)


def test_run_node_with_types_from_the_caller():
    node = helper.make_node("TopK", ["x", "k"], ["v", "i"])
    v, i = dlc.backend.run_node(node, {"x": np.array([3., 1., 2.], np.float32), "k": np.array([2], np.int64)},
                                outputs_info=[(np.float32, (None,)), (np.int64, (None,))])
    assert v.tolist() == [3, 2] and i.tolist() == [0, 2]


def test_what_is_not_supported_is_both_errors():
    x = np.zeros((2, 2), np.float32)
    node = helper.make_node("Multinomial", ["x"], ["y"], name="dice", sample_size=2)
    with pytest.raises(dlc.UnsupportedOpError) as e:
        dlc.backend.run_node(node, [x])
    assert isinstance(e.value, unittest.SkipTest) and e.value.nodes[0].op == "Multinomial"


def run_suite(backend, pattern):
    suite = onnx.backend.test.BackendTest(backend, __name__).include(pattern)
    tests = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in suite.test_cases.values())
    result = unittest.TestResult()
    tests.run(result)
    return result


# A name of the suite selects by regular expression; `cpu` tests only: others are skipped by supports_device.
PATTERN = r"^test_(softmax_axis_1|gelu_tanh_1|conv_with_strides_padding|reshape_reordered_all_dims|topk)_cpu$"


def test_onnx_runs_its_tests_over_it():
    result = run_suite(dlc.backend, PATTERN)
    assert result.testsRun >= 5 and not result.failures and not result.errors, (result.failures, result.errors)
    assert len(result.skipped) < result.testsRun


def test_onnx_finds_a_wrong_backend():
    class Wrong(dlc.backend.Backend):
        @classmethod
        def prepare(cls, model, device="CPU", **kwargs):
            rep = super().prepare(model, device, **kwargs)
            right = rep.run
            rep.run = lambda inputs, **k: tuple(y + 1 for y in right(inputs))
            return rep

    assert run_suite(Wrong, PATTERN).failures
