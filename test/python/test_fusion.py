"""Random graphs (utils/fuzz): the compiled model beside the interpreter and a float64 evaluation, with fusion and without.

Six small graphs here, 550 of 1,000-2,000 operators in the full tier (utils/full/fusion.sh). The judge's negative controls are
faults in the model and faults in the generated code (-plant-fault): it must see them."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "utils", "fuzz"))
import controls  # noqa: E402
import evaluate  # noqa: E402
import graphs  # noqa: E402
import judge  # noqa: E402

FUSION = judge.knows_fusion()
GRAPHS = [("mix", 1, 70, False), ("norms", 2, 50, True), ("transformer", 3, 60, False), ("tangles", 4, 60, True), ("halves", 5, 50, False), ("shared", 6, 60, False)]


@pytest.mark.parametrize("family,seed,ops,symbolic", GRAPHS, ids=lambda value: str(value))
def test_graph(family, seed, ops, symbolic, tmp_path):
    found = judge.judge(graphs.make(family, seed, ops, symbolic), str(tmp_path), FUSION)
    assert found["blind"] == 0, "a gate so wide sees nothing"


@pytest.mark.parametrize("family", [f for f in graphs.FAMILIES if f != "cut"])
def test_faults_in_the_model_are_seen(family):
    """A dropped last element, swapped operands, inputs rounded to bf16, places off by one."""
    planted, missed = judge.judge_controls(graphs.make(family, 7, 60))
    assert planted and not missed


@pytest.mark.parametrize("family,fault", [("norms", "drop-last:add"), ("norms", "swap:sub"), ("transformer", "drop-last:max")])
def test_faults_in_the_code_are_seen(family, fault, tmp_path):
    case = graphs.make(family, 8, 40)
    with pytest.raises(judge.Failure, match="^(bits|gate): "):
        judge.judge(case, str(tmp_path), False, ["-plant-fault=" + fault])


def test_the_gate_is_that_of_a_sum():
    """For one sum of d terms the gate is 8 u sqrt(d) ||x||_2, up to what eight samples say of it."""
    import numpy as np
    from onnx import TensorProto, helper

    rng = np.random.default_rng(3)
    x = rng.standard_normal((64, 1024)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "one"], ["y"])
    graph = helper.make_graph([node], "sum", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 1])],
                              [helper.make_tensor("one", TensorProto.FLOAT, [1024, 1], np.ones(1024, np.float32))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    expected, gate = evaluate.reference(model, {"x": x})[0]
    bound = 8 * 2.0**-24 * np.sqrt(1024) * np.linalg.norm(x, axis=1)[:, None]
    assert 0.4 < np.median(gate / bound) < 2.5
    assert judge.within_gate([x.sum(1, keepdims=True)], [(expected, gate)]) is None
    assert judge.within_gate([x[:, :-1].sum(1, keepdims=True)], [(expected, gate)])


@pytest.mark.parametrize("axis,shape", [(0, (60000, 24)), (1, (3, 60000)), ((0, 2), (600, 5, 100))])
def test_long_sums_stay_within_the_gate(axis, shape, tmp_path):
    """Many terms of one sign leave the gate when they are added from left to right (strict, the control); in free order they must not."""
    import numpy as np
    from onnx import TensorProto, helper

    axes = [axis] if isinstance(axis, int) else list(axis)
    x = np.random.default_rng(1).uniform(0.5, 1, shape).astype(np.float32)
    rest = [n for i, n in enumerate(shape) if i not in axes]
    graph = helper.make_graph([helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)], "sum",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, rest)],
                              [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    case = graphs.Case("sum", model, [{"x": x}])
    reference = evaluate.reference(model, case.feeds[0])
    subject = judge.Subject(case, str(tmp_path))
    free, strict = (subject.run(subject.compile(mode, "-fp=" + mode), 0) for mode in ("reassoc", "strict"))
    assert judge.within_gate(free, reference) is None
    assert judge.within_gate(strict, reference)
    assert judge.within_gate(strict, evaluate.reference(model, case.feeds[0], ordered=True)) is None


def test_integer_division_of_the_evaluation():
    import numpy as np
    import operators

    a, b = np.array([-128, -128, 7, -7, 6, 127], np.int8), np.array([6, -6, -2, 2, 3, -128], np.int8)
    assert operators.integer_div(a, b).tolist() == [-21, 21, -3, -3, 2, 0]


def test_generator_is_deterministic():
    first, second = (graphs.make("reductions", 3, 40, True) for _ in range(2))
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert controls.evaluate_single(first.model, first.feeds[0])[0].tobytes() == controls.evaluate_single(second.model, second.feeds[0])[0].tobytes()
