"""erf and tanh, which are looked up in tables with AVX-512: element types, widths of vectors and nests, beside numpy."""
import math

import dlc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

TYPES = {"float32": (TensorProto.FLOAT, 2e-6), "float16": (TensorProto.FLOAT16, 2e-3)}
EXACT = {"Tanh": np.tanh, "Erf": np.vectorize(math.erf)}


def compile_model(nodes, shape, out, dtype, folder):
    info = [helper.make_tensor_value_info(name, TYPES[dtype][0], dims) for name, dims in (("x", shape), ("y", out))]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "m.onnx")
    return dlc.compile(folder / "m.onnx", target="host")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", EXACT)
@pytest.mark.parametrize("rows,columns", [(1, 1), (3, 7), (5, 16), (2, 40), (64, 33), (37, 200)])
def test_beside_numpy(op, dtype, rows, columns, tmp_path):
    """By itself, behind a transpose, and in rows."""
    x = (np.random.default_rng(rows).standard_normal((rows, columns)) * 3).astype(dtype)
    want = EXACT[op](x.astype(np.float64))
    tolerance = TYPES[dtype][1]
    softmax = np.exp(want) / np.exp(want).sum(-1, keepdims=True)
    make = helper.make_node
    for nodes, expected in (
            ([make(op, ["x"], ["y"])], want),
            ([make("Transpose", ["x"], ["t"], perm=[1, 0]), make(op, ["t"], ["y"])], want.T),
            ([make(op, ["x"], ["t"]), make("Softmax", ["t"], ["y"], axis=-1)], softmax)):
        y = compile_model(nodes, x.shape, expected.shape, dtype, tmp_path).run([x])[0]
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("op", EXACT)
@pytest.mark.parametrize("columns,inner", [(11, 11), (40, 64), (3, 130)])
def test_before_a_product_of_bf16(op, columns, inner, tmp_path):
    """A factor that is computed while it is packed, in pairs of steps."""
    rng = np.random.default_rng(columns)
    x, d, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 4, inner), (4, 1, 1), (inner, columns)))
    d = np.abs(d) + 1
    make = helper.make_node
    nodes = [make("Cast", [name], [name + "b"], to=TensorProto.BFLOAT16) for name in ("x", "d", "w")]
    nodes += [make(op, ["xb"], ["t"]), make("Div", ["t", "db"], ["q"]), make("MatMul", ["q", "wb"], ["p"]), make("Cast", ["p"], ["y"], to=TensorProto.FLOAT)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape) for name, v in (("x", x), ("d", d), ("w", w))]
    graph = helper.make_graph(nodes, "g", info, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4, columns])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    y = dlc.compile(tmp_path / "m.onnx", target="host").run([x, d, w])[0]
    want = (EXACT[op](x.astype(np.float64)) / d) @ w
    np.testing.assert_allclose(y, want, rtol=5e-2, atol=5e-2 * np.sqrt(inner) / 4)
