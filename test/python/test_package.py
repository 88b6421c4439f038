"""The Python package: compile, load, run, every way of giving inputs, and each error class."""

import concurrent.futures

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlc
import models


def close(a, b, tolerance=1e-5):
    scale = max(np.abs(b).max(), 1e-30)
    return a.shape == b.shape and np.abs(a - b).max() / scale <= tolerance


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    path, reference = models.mlp(tmp_path_factory.mktemp("mlp") / "mlp.onnx")
    return dlc.compile(path), reference, path


@pytest.mark.parametrize("batch", [1, 2, 7, 16, 33])
def test_one_compile_serves_every_batch(mlp, batch):
    model, reference, _ = mlp
    x = np.random.default_rng(batch).normal(size=(batch, 33)).astype(np.float32)
    y, = model.run([x])
    assert close(y, reference(x))
    # the comparison must see a wrong answer
    assert not close(y, reference(x * 1.001))


def test_inputs_by_name_by_call_and_through_dlpack(mlp):
    model, reference, _ = mlp
    x = np.random.default_rng(0).normal(size=(3, 33)).astype(np.float32)

    class Exporter:  # nothing but the protocol
        def __dlpack__(self, **kwargs):
            return x.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    for y in (model.run({"x": x})[0], model(x), model(x=x), model(Exporter()), model(x.tolist() and np.asfortranarray(x))):
        assert close(y, reference(x))


def test_info_describes_the_model(mlp):
    model = mlp[0]
    assert [i["name"] for i in model.inputs] == ["x"] and model.inputs[0]["shape"] == ["batch", 33]
    assert model.inputs[0]["dtype"] == np.float32
    assert [o["name"] for o in model.outputs] == ["y"]
    assert model.info["symbols"][0]["name"] == "batch"


def test_save_and_load(mlp, tmp_path):
    model, reference, _ = mlp
    model.save(tmp_path / "copy.so")
    x = np.ones((2, 33), np.float32)
    assert close(dlc.load(tmp_path / "copy.so").run([x])[0], reference(x))


def test_threads_share_a_model(mlp):
    model, reference, _ = mlp
    inputs = [np.random.default_rng(s).normal(size=(1 + s, 33)).astype(np.float32) for s in range(16)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for x, y in zip(inputs, pool.map(lambda x: model.run([x])[0], inputs)):
            assert close(y, reference(x))


def test_results_stay_as_they_are_while_anybody_holds_them(tmp_path):
    node = helper.make_node("Neg", ["x"], ["y"])
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [256, 256])
    proto = helper.make_model(helper.make_graph([node], "g", [info("x")], [info("y")]),
                                   opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = dlc.compile(proto)
    x = [np.full((256, 256), i, np.float32) for i in range(6)]
    held = [model.run([x[i]])[0] for i in range(3)]
    part = model.run([x[3]])[0][5:7, 3:9].T  # of the result only a view of a view is left
    view = memoryview(model.run([x[4]])[0])
    for i in range(6):
        model.run([x[5]])
    assert all((held[i] == -x[i]).all() for i in range(3)) and (part == -3).all() and (np.asarray(view) == -4).all()
    addresses = {model.run([x[0]])[0].ctypes.data for _ in range(8)}
    assert len(addresses) <= 2, "memory that nobody holds is used again"


def test_the_interpreter_agrees(mlp):
    model, _, path = mlp
    x = np.random.default_rng(5).normal(size=(4, 33)).astype(np.float32)
    oracle = dlc.compile(path, target="interp")
    assert close(model.run([x])[0], oracle.run([x])[0])


@pytest.mark.parametrize("feeds, words", [
    ([np.zeros((2, 32), np.float32)], ["'x'", "33"]),
    ([np.zeros((2, 33), np.float64)], ["'x'", "float64"]),
    ([np.zeros((33,), np.float32)], ["'x'", "rank"]),
    ([], ["1 inputs"]),
    ({"z": np.zeros((2, 33), np.float32)}, ["unknown", "z"]),
])
def test_wrong_feeds_are_named(mlp, feeds, words):
    with pytest.raises(dlc.RunError) as e:
        mlp[0].run(feeds)
    for word in words:
        assert word in str(e.value)


def test_symbols_must_agree(tmp_path):
    path = models.save(tmp_path / "add.onnx", [helper.make_node("Add", ["a", "b"], ["c"])],
                       [models.value("a", ["n", 4]), models.value("b", ["n", 4])], [models.value("c", ["n", 4])])
    model = dlc.compile(path)
    with pytest.raises(dlc.RunError) as e:
        model.run([np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32)])
    assert "n" in str(e.value) and "'b'" in str(e.value)


def test_unsupported_nodes_are_all_listed(tmp_path):
    nodes = [helper.make_node("Multinomial", ["x"], ["a"], name="first", sample_size=3),
             helper.make_node("Multinomial", ["x"], ["b"], name="second", sample_size=2)]
    path = models.save(tmp_path / "random.onnx", nodes, [models.value("x", [2, 4])],
                       [models.value("a", [2, 3], TensorProto.INT32), models.value("b", [2, 2], TensorProto.INT32)])
    with pytest.raises(dlc.UnsupportedOpError) as e:
        dlc.compile(path)
    assert "first" in str(e.value) and "second" in str(e.value) and "Multinomial" in str(e.value)
    assert {d.node for d in e.value.nodes} == {"first", "second"}


def test_a_broken_file_is_a_compile_error(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07garbage" * 9)
    with pytest.raises(dlc.CompileError) as e:
        dlc.compile(tmp_path / "broken.onnx")
    assert "broken.onnx" in str(e.value)


def test_a_missing_file_and_a_bad_target(tmp_path, mlp):
    with pytest.raises(OSError):
        dlc.compile(tmp_path / "nowhere.onnx")
    with pytest.raises((ValueError, dlc.TargetError)) as e:
        dlc.compile(mlp[2], target="x87")
    assert "x86" in str(e.value)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
                                   "uint64", "bool", "bfloat16"])
def test_every_dtype_passes_through(tmp_path, dtype):
    if dtype == "bfloat16":
        import ml_dtypes

        numpy_type, onnx_type = np.dtype(ml_dtypes.bfloat16), TensorProto.BFLOAT16
    else:
        numpy_type = np.dtype(dtype)
        onnx_type = helper.np_dtype_to_tensor_dtype(numpy_type)
    path = models.save(tmp_path / "t.onnx", [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])],
                       [models.value("x", [3, 5], onnx_type)], [models.value("y", [5, 3], onnx_type)])
    x = (np.arange(15).reshape(3, 5) % 2 if dtype == "bool" else np.arange(15).reshape(3, 5)).astype(numpy_type)
    for target in ("host", "interp"):
        y, = dlc.compile(path, target=target).run([x])
        assert y.dtype == numpy_type
        assert np.array_equal(y.astype(np.float64), x.T.astype(np.float64))
