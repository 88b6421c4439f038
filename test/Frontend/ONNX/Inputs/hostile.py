"""Writes models that are wrong on purpose and checks how dlc refuses each.

    hostile.py <folder> <dlc> [name ...]

A case a fault; what is asked of a refusal is in refusals.py.
"""
import os
import random
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import refusals

CASES = {}  # name -> (writer(path), words one of which must be in the message; None: must be accepted)
WHOLE = set()  # names of cases where the file as a whole is at fault
FLAGS = {}  # name -> further flags of dlc


def case(*words, whole=False, flags=()):
    def add(function):
        CASES[function.__name__] = (function, words or None)
        FLAGS[function.__name__] = list(flags)
        if whole:
            WHOLE.add(function.__name__)
        return function

    return add


def info(name, shape, type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, type, shape)


def model(nodes, inputs=None, outputs=None, initializers=(), opset=20, ir=10, functions=(), opsets=None, **graph):
    inputs = [info("x", [2, 3])] if inputs is None else inputs
    outputs = [info("y", None)] if outputs is None else outputs
    g = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(initializers), **graph)
    imports = opsets or [helper.make_opsetid("", opset)]
    m = helper.make_model(g, opset_imports=imports, functions=list(functions))
    m.ir_version = ir
    return m


def node(*args, **attributes):
    attributes.setdefault("name", "n")
    return helper.make_node(*args, **attributes)


def save(m, path):
    with open(path, "wb") as file:
        file.write(m.SerializeToString())


def raw(name, dims, data, type=TensorProto.FLOAT):
    t = TensorProto(name=name, data_type=type, raw_data=data)
    t.dims.extend(dims)
    return t


def external(name, dims, location, offset=None, length=None):
    t = TensorProto(name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    t.dims.extend(dims)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            t.external_data.add(key=key, value=str(value))
    return t


def with_weight(path, tensor):
    save(model([node("Add", ["x", "w"], ["y"])], initializers=[tensor]), path)


# ------------------------------------------------------------------------------------------- the file
@case("empty", whole=True)
def empty_file(path):
    open(path, "wb").close()


@case("not an ONNX model", "no graph", whole=True)
def garbage(path):
    open(path, "wb").write(random.Random(1).randbytes(4096))


@case("not an ONNX model", "no graph", whole=True)
def text_file(path):
    open(path, "w").write("this is no model\n" * 50)


@case("not an ONNX model", whole=True)
def truncated(path):
    m = model([node("Add", ["x", "w"], ["y"])], initializers=[numpy_helper.from_array(np.ones((2, 3), "f4"), "w")])
    open(path, "wb").write(m.SerializeToString()[:-20])


@case("folder", "directory", whole=True)
def a_folder(path):
    os.makedirs(path, exist_ok=True)


@case("No such file", "cannot be read", whole=True)
def missing_file(path):
    pass


@case("no graph", "no opset", whole=True)
def no_graph(path):
    m = model([node("Relu", ["x"], ["y"])])
    m.ClearField("graph")
    save(m, path)


# ------------------------------------------------------------------------------------------- versions
@case("opset 9999", whole=True)
def opset_9999(path):
    save(model([node("Relu", ["x"], ["y"])], opset=9999), path)


@case("opset 0", whole=True)
def opset_zero(path):
    save(model([node("Relu", ["x"], ["y"])], opset=0), path)


@case("opset -1", whole=True)
def opset_negative(path):
    save(model([node("Relu", ["x"], ["y"])], opset=-1), path)


@case("IR version 9999", whole=True)
def ir_9999(path):
    save(model([node("Relu", ["x"], ["y"])], ir=9999), path)


@case("twice", whole=True)
def opset_twice(path):
    save(model([node("Relu", ["x"], ["y"])], opsets=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", 18)]), path)


@case("opset", whole=True)
def no_opset(path):
    m = model([node("Relu", ["x"], ["y"])])
    m.ClearField("opset_import")
    save(m, path)


# ------------------------------------------------------------------------------------------- operators
@case("Frobnicate")
def unknown_op(path):
    save(model([node("Frobnicate", ["x"], ["y"])]), path)


@case("acme.Frobnicate")
def unknown_domain(path):
    save(model([node("Frobnicate", ["x"], ["y"], domain="acme")],
               opsets=[helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)]), path)


@case("Frob1", "Frob2")
def several_unknown(path):
    save(model([node("Frob1", ["x"], ["a"], name="a"), node("Frob2", ["a"], ["y"], name="b")]), path)


@case("n")
def unknown_attribute(path):
    save(model([node("Relu", ["x"], ["y"], speed=9)]), path)


@case("axis")
def wrong_attribute_type(path):
    save(model([node("Softmax", ["x"], ["y"], axis="one")]), path)


@case("perm")
def perm_not_permutation(path):
    save(model([node("Transpose", ["x"], ["y"], perm=[0, 0])]), path)


@case("axis", "range")
def axis_out_of_range(path):
    save(model([node("Softmax", ["x"], ["y"], axis=7)]), path)


@case("input", "operand")
def too_many_inputs(path):
    save(model([node("Relu", ["x"] * 500, ["y"])]), path)


@case("input", "operand")
def too_few_inputs(path):
    save(model([node("Add", ["x"], ["y"])]), path)


@case("group")
def group_zero(path):
    w = numpy_helper.from_array(np.ones((4, 3, 1, 1), "f4"), "w")
    save(model([node("Conv", ["x", "w"], ["y"], group=0)], [info("x", [1, 3, 5, 5])], initializers=[w]), path)


@case("group", "channel", "dim")
def group_does_not_divide(path):
    w = numpy_helper.from_array(np.ones((4, 3, 1, 1), "f4"), "w")
    save(model([node("Conv", ["x", "w"], ["y"], group=2)], [info("x", [1, 3, 5, 5])], initializers=[w]), path)


@case("pads", "large")
def huge_pads(path):
    save(model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[1 << 62, 0, 0, 0])], [info("x", [1, 3, 5, 5])]), path)


@case("large", "pads")
def pad_to_the_moon(path):
    p = numpy_helper.from_array(np.array([0, 0, 1 << 50, 0], "i8"), "p")
    save(model([node("Pad", ["x", "p"], ["y"])], initializers=[p]), path)


@case("stride", "positive")
def stride_zero(path):
    save(model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 1])], [info("x", [1, 3, 5, 5])]), path)


@case("kernel", "window")
def kernel_larger_than_input(path):
    save(model([node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9])], [info("x", [1, 3, 5, 5])]), path)


@case("shape", "count", "dim")
def reshape_mismatch(path):
    s = numpy_helper.from_array(np.array([7], "i8"), "s")
    save(model([node("Reshape", ["x", "s"], ["y"])], initializers=[s]), path)


@case("shape", "-1")
def reshape_two_unknown(path):
    s = numpy_helper.from_array(np.array([-1, -1], "i8"), "s")
    save(model([node("Reshape", ["x", "s"], ["y"])], initializers=[s]), path)


@case("index", "range")
def gather_out_of_range(path):
    i = numpy_helper.from_array(np.array(9, "i8"), "i")
    save(model([node("Gather", ["x", "i"], ["y"])], initializers=[i]), path)


@case("split")
def split_sum(path):
    s = numpy_helper.from_array(np.array([1, 5], "i8"), "s")
    save(model([node("Split", ["x", "s"], ["y", "z"], axis=1)], outputs=[info("y", None), info("z", None)], initializers=[s]), path)


@case("multiply", "dim", "shape")
def matmul_mismatch(path):
    w = numpy_helper.from_array(np.ones((4, 5), "f4"), "w")
    save(model([node("MatMul", ["x", "w"], ["y"])], initializers=[w]), path)


@case("broadcast", "dim")
def broadcast_mismatch(path):
    with_weight(path, numpy_helper.from_array(np.ones((4, 5), "f4"), "w"))


@case("type")
def int_plus_float(path):
    with_weight(path, numpy_helper.from_array(np.ones((2, 3), "i4"), "w"))


@case("large", "long")
def range_endless(path):
    t = [numpy_helper.from_array(np.array(v, "f8"), n) for n, v in (("a", 0.0), ("b", 1e300), ("c", 1e-300))]
    save(model([node("Range", ["a", "b", "c"], ["y"])], [], [info("y", None, TensorProto.DOUBLE)], initializers=t), path)


@case("large", "long", "range")
def range_long(path):
    t = [numpy_helper.from_array(np.array(v, "i8"), n) for n, v in (("a", 0), ("b", 1 << 62), ("c", 1))]
    save(model([node("Range", ["a", "b", "c"], ["y"])], [], [info("y", None, TensorProto.INT64)], initializers=t), path)


@case("delta", "0")
def range_step_zero(path):
    t = [numpy_helper.from_array(np.array(v, "i8"), n) for n, v in (("a", 0), ("b", 5), ("c", 0))]
    save(model([node("Range", ["a", "b", "c"], ["y"])], [], [info("y", None, TensorProto.INT64)], initializers=t), path)


@case("large")
def tile_bomb(path):
    r = numpy_helper.from_array(np.array([1 << 31, 1 << 31], "i8"), "r")
    save(model([node("Tile", ["x", "r"], ["y"])], initializers=[r]), path)


@case("large")
def expand_bomb(path):
    s = numpy_helper.from_array(np.array([1 << 40, 1 << 40, 2, 3], "i8"), "s")
    save(model([node("Expand", ["x", "s"], ["y"])], initializers=[s]), path)


@case("large", "scale")
def resize_bomb(path):
    s = numpy_helper.from_array(np.array([1e30, 1e30], "f4"), "s")
    save(model([node("Resize", ["x", "", "s"], ["y"])], initializers=[s]), path)


@case("large")
def constant_of_shape_bomb(path):
    s = numpy_helper.from_array(np.array([1 << 31, 1 << 31], "i8"), "s")
    save(model([node("ConstantOfShape", ["s"], ["y"])], [], initializers=[s]), path)


@case("negative")
def constant_of_shape_negative(path):
    s = numpy_helper.from_array(np.array([-5], "i8"), "s")
    save(model([node("ConstantOfShape", ["s"], ["y"])], [], initializers=[s]), path)


# ------------------------------------------------------------------------------------------- structure
@case("twice", "SSA", "unique", "duplicate")
def value_defined_twice(path):
    save(model([node("Relu", ["x"], ["y"], name="a"), node("Neg", ["x"], ["y"], name="b")]), path)


@case("twice")
def initializer_twice(path):
    w = numpy_helper.from_array(np.ones((2, 3), "f4"), "w")
    save(model([node("Add", ["x", "w"], ["y"])], initializers=[w, w]), path)


@case("sort", "nothing defines", "not output")
def undefined_input(path):
    save(model([node("Add", ["x", "ghost"], ["y"])]), path)


@case("sort", "nothing defines", "not output")
def self_loop(path):
    save(model([node("Add", ["x", "y"], ["y"])]), path)


@case("sort", "nothing defines", "not output")
def cycle(path):
    save(model([node("Add", ["x", "b"], ["a"], name="p"), node("Relu", ["a"], ["b"], name="q"), node("Neg", ["b"], ["y"], name="r")]), path)


@case("ghost")
def output_never_computed(path):
    save(model([node("Relu", ["x"], ["y"])], outputs=[info("ghost", [2, 3])]), path)


@case("If", "branch", "output")
def if_branch_count(path):
    a = helper.make_graph([node("Relu", ["x"], ["p"])], "a", [], [info("p", [2, 3])])
    b = helper.make_graph([node("Relu", ["x"], ["q"]), node("Neg", ["x"], ["r"])], "b", [], [info("q", [2, 3]), info("r", [2, 3])])
    save(model([node("If", ["c"], ["y"], then_branch=a, else_branch=b)], [info("c", [], TensorProto.BOOL), info("x", [2, 3])]), path)


@case("nested", "not an ONNX model")
def deep_nesting(path):
    g = helper.make_graph([node("Relu", ["x"], ["o0"])], "g0", [], [info("o0", [2, 3])])
    for i in range(1, 30):
        g = helper.make_graph([node("If", ["c"], [f"o{i}"], then_branch=g, else_branch=helper.make_graph(
            [node("Relu", ["x"], [f"e{i}"])], "e", [], [info(f"e{i}", [2, 3])]))], f"g{i}", [], [info(f"o{i}", [2, 3])])
    m = model(list(g.node), [info("c", [], TensorProto.BOOL), info("x", [2, 3])], [info("o29", [2, 3])])
    save(m, path)


@case("nested", "not an ONNX model", whole=True)
def very_deep_nesting(path):
    body = b""
    for _ in range(2000):  # node { attribute { g { node { ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            size, n = b"", len(body)
            while True:
                size += bytes([n & 0x7F | (0x80 if n > 0x7F else 0)])
                n >>= 7
                if not n:
                    break
            body = tag + size + body
    size, n = b"", len(body)
    while True:
        size += bytes([n & 0x7F | (0x80 if n > 0x7F else 0)])
        n >>= 7
        if not n:
            break
    open(path, "wb").write(b"\x08\x0a\x3a" + size + body)


def function(name, nodes, inputs=("a",), outputs=("b",)):
    return helper.make_function("f", name, list(inputs), list(outputs), nodes, [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)])


FOPS = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]


@case("calls itself", "cycle", "recurs")
def function_calls_itself(path):
    save(model([node("F", ["x"], ["y"], domain="f")], opsets=FOPS, functions=[function("F", [node("F", ["a"], ["b"], domain="f")])]), path)


@case("calls itself", "cycle", "recurs")
def functions_call_each_other(path):
    fs = [function("F", [node("G", ["a"], ["b"], domain="f")]), function("G", [node("F", ["a"], ["b"], domain="f")])]
    save(model([node("F", ["x"], ["y"], domain="f")], opsets=FOPS, functions=fs), path)


@case("nodes", whole=True)
def function_billion_laughs(path):
    fs = [function("F0", [node("Relu", ["a"], ["b"])])]
    for i in range(1, 40):
        fs.append(function(f"F{i}", [node(f"F{i-1}", ["a"], ["t"], domain="f"), node(f"F{i-1}", ["t"], ["b"], domain="f")]))
    save(model([node("F39", ["x"], ["y"], domain="f")], opsets=FOPS, functions=fs), path)


@case("deep")
def function_chain(path):
    fs = [function("F0", [node("Relu", ["a"], ["b"])])]
    for i in range(1, 5000):
        fs.append(function(f"F{i}", [node(f"F{i-1}", ["a"], ["b"], domain="f")]))
    save(model([node("F4999", ["x"], ["y"], domain="f")], opsets=FOPS, functions=fs), path)


@case("iterations", "known when")
def loop_forever(path):
    body = helper.make_graph([node("Identity", ["c"], ["c2"]), node("Relu", ["v"], ["v2"])], "body",
                             [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("v", [2, 3])],
                             [info("c2", [], TensorProto.BOOL), info("v2", [2, 3])])
    t = numpy_helper.from_array(np.array(True), "t")
    save(model([node("Loop", ["", "t", "x"], ["y"], body=body)], initializers=[t]), path)


@case("iterations")
def loop_many(path):
    body = helper.make_graph([node("Identity", ["c"], ["c2"]), node("Relu", ["v"], ["v2"])], "body",
                             [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("v", [2, 3])],
                             [info("c2", [], TensorProto.BOOL), info("v2", [2, 3])])
    m = numpy_helper.from_array(np.array(1 << 40, "i8"), "m")
    save(model([node("Loop", ["m", "", "x"], ["y"], body=body)], initializers=[m]), path)


# ------------------------------------------------------------------------------------------- tensors
@case("raw_data")
def raw_data_short(path):
    with_weight(path, raw("w", [2, 3], b"\0" * 23))


@case("raw_data")
def raw_data_long(path):
    with_weight(path, raw("w", [2, 3], b"\0" * 25))


@case("large", "negative")
def dims_overflow(path):
    with_weight(path, raw("w", [1 << 32, 1 << 32, 1 << 32], b"\0" * 24))


@case("large", "negative")
def dims_wrap_to_zero(path):
    with_weight(path, raw("w", [1 << 32, 1 << 32], b""))


@case("large", "negative")
def dims_negative(path):
    with_weight(path, raw("w", [-2, 3], b"\0" * 24))


@case("data type")
def dtype_unknown(path):
    with_weight(path, raw("w", [2, 3], b"\0" * 24, 99))


@case("data type")
def dtype_undefined(path):
    with_weight(path, raw("w", [2, 3], b"\0" * 24, 0))


@case("values")
def typed_data_short(path):
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], float_data=[1.0] * 5)
    with_weight(path, t)


@case("dim")
def input_dims_overflow(path):
    save(model([node("Relu", ["x"], ["y"])], [info("x", [1 << 40, 1 << 40])]), path)


@case("dim")
def input_dim_negative(path):
    save(model([node("Relu", ["x"], ["y"])], [info("x", [-7, 3])]), path)


@case("data type", "type")
def input_type_unknown(path):
    save(model([node("Relu", ["x"], ["y"])], [info("x", [2, 3], 77)]), path)


@case("external")
def external_missing(path):
    with_weight(path, external("w", [2, 3], "nowhere.bin"))


@case("external", "outside")
def external_parent(path):
    with_weight(path, external("w", [2, 3], "../outside.bin"))


@case("external", "absolute")
def external_absolute(path):
    with_weight(path, external("w", [2, 3], "/etc/passwd"))


@case("external", "symbolic")
def external_symlink(path):
    link = os.path.join(os.path.dirname(path), "link.bin")
    if not os.path.lexists(link):
        os.symlink("/etc/passwd", link)
    with_weight(path, external("w", [2, 3], "link.bin"))


@case("external", "regular")
def external_directory(path):
    os.makedirs(os.path.join(os.path.dirname(path), "dir.bin"), exist_ok=True)
    with_weight(path, external("w", [2, 3], "dir.bin"))


def data_file(path, size):
    open(os.path.join(os.path.dirname(path), f"data{size}.bin"), "wb").write(b"\0" * size)
    return f"data{size}.bin"


@case("external", "bytes")
def external_short(path):
    with_weight(path, external("w", [2, 3], data_file(path, 20)))


@case("external", "bytes")
def external_offset_past_end(path):
    with_weight(path, external("w", [2, 3], data_file(path, 64), offset=1 << 40))


@case("offset")
def external_offset_negative(path):
    with_weight(path, external("w", [2, 3], data_file(path, 64), offset=-8))


@case("offset")
def external_offset_text(path):
    with_weight(path, external("w", [2, 3], data_file(path, 64), offset="eight"))


@case("bytes")
def external_length_wrong(path):
    with_weight(path, external("w", [2, 3], data_file(path, 64), length=1000))


@case("location")
def external_no_location(path):
    with_weight(path, external("w", [2, 3], None, offset=0))


# ------------------------------------------------------------------------------------------- attributes and types
@case("NaN", "number", "finite", "scale", "large")
def nan_scales(path):
    s = numpy_helper.from_array(np.array([1, float("nan")], "f4"), "s")
    save(model([node("Resize", ["x", "", "s"], ["y"])], initializers=[s]), path)


@case("scale", "positive")
def negative_scales(path):
    s = numpy_helper.from_array(np.array([1, -2], "f4"), "s")
    save(model([node("Resize", ["x", "", "s"], ["y"])], initializers=[s]), path)


@case("ratio", "number")
def nan_ratio(path):
    t = [numpy_helper.from_array(np.array(float("nan"), "f4"), "r"), numpy_helper.from_array(np.array(True), "t")]
    save(model([node("Dropout", ["x", "r", "t"], ["y"])], initializers=t), path)


@case("data type", "to")
def cast_to_unknown(path):
    save(model([node("Cast", ["x"], ["y"], to=77)]), path)


@case("string")
def cast_to_string(path):
    save(model([node("Cast", ["x"], ["y"], to=TensorProto.STRING)], outputs=[info("y", [2, 3], TensorProto.STRING)]), path)


@case("round_mode")
def unknown_round_mode(path):
    save(model([node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E8M0, round_mode="sideways")], opset=25,
               outputs=[info("y", [2, 3], TensorProto.FLOAT8E8M0)]), path)


@case("raw_data")
def int4_raw_short(path):
    t = raw("w", [5], b"\0" * 2, TensorProto.INT4)
    save(model([node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)], [], initializers=[t], opset=21), path)


@case("float8", "type")
def add_of_float8(path):
    save(model([node("Add", ["x", "x"], ["y"])], [info("x", [2], TensorProto.FLOAT8E4M3FN)]), path)


@case("string")
def string_input(path):
    save(model([node("Identity", ["x"], ["y"])], [info("x", [2], TensorProto.STRING)],
               [info("y", [2], TensorProto.STRING)]), path)


@case("sparse")
def sparse_initializer(path):
    m = model([node("Add", ["x", "w"], ["y"])])
    s = m.graph.sparse_initializer.add(dims=[2, 3])
    s.values.CopyFrom(raw("w", [1], b"\0" * 4))
    s.indices.CopyFrom(raw("i", [1], b"\0" * 8, TensorProto.INT64))
    save(m, path)


@case("axis", "axes", "twice")
def axes_twice(path):
    a = numpy_helper.from_array(np.array([0, 0], "i8"), "a")
    save(model([node("ReduceSum", ["x", "a"], ["y"])], initializers=[a]), path)


@case("perm")
def perm_too_long(path):
    save(model([node("Transpose", ["x"], ["y"], perm=[0, 1, 2])]), path)


@case("equation", "einsum", "rank", "letter", "dim")
def einsum_nonsense(path):
    save(model([node("Einsum", ["x"], ["y"], equation="ijk->i")]), path)


@case("dilation", "positive")
def dilation_zero(path):
    w = numpy_helper.from_array(np.ones((4, 3, 1, 1), "f4"), "w")
    save(model([node("Conv", ["x", "w"], ["y"], dilations=[0, 1])], [info("x", [1, 3, 5, 5])], initializers=[w]), path)


@case("twice", "defined")
def function_twice(path):
    fs = [function("F", [node("Relu", ["a"], ["b"])]), function("F", [node("Neg", ["a"], ["b"])])]
    save(model([node("F", ["x"], ["y"], domain="f")], opsets=FOPS, functions=fs), path)


@case("nested")
def deep_sequence_type(path):
    m = model([node("Identity", ["x"], ["y"])])
    t = m.graph.input[0].type
    t.Clear()
    for _ in range(25):
        t = t.sequence_type.elem_type
    t.tensor_type.elem_type = TensorProto.FLOAT
    save(m, path)


# ------------------------------------------------------------------------------------------- limits
@case("4 nodes", whole=True, flags=["-max-nodes=3"])
def limit_nodes(path):
    save(model([node("Relu", ["x" if i == 0 else f"v{i}"], [f"v{i + 1}" if i < 3 else "y"], name=f"n{i}") for i in range(4)]), path)


@case("7 nodes", whole=True, flags=["-max-expansion=7"])
def limit_expansion(path):
    fs = [function("F0", [node("Relu", ["a"], ["b"])])]
    for i in range(1, 4):
        fs.append(function(f"F{i}", [node(f"F{i-1}", ["a"], ["t"], domain="f"), node(f"F{i-1}", ["t"], ["b"], domain="f")]))
    save(model([node("F3", ["x"], ["y"], domain="f")], opsets=FOPS, functions=fs), path)


@case("-max-expansion", flags=["-max-expansion=50"])
def limit_unrolled(path):
    body = helper.make_graph([node("Identity", ["c"], ["c2"]), node("Relu", ["v"], ["u"]), node("Neg", ["u"], ["v2"])], "body",
                             [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("v", [2, 3])],
                             [info("c2", [], TensorProto.BOOL), info("v2", [2, 3])])
    m = numpy_helper.from_array(np.array(100, "i8"), "m")
    save(model([node("Loop", ["m", "", "x"], ["y"], body=body)], initializers=[m]), path)


@case("1 deep", flags=["-max-nesting=1"])
def limit_nesting(path):
    g = helper.make_graph([node("Relu", ["x"], ["o"])], "g", [], [info("o", [2, 3])])
    h = helper.make_graph([node("If", ["c"], ["p"], then_branch=g, else_branch=g)], "h", [], [info("p", [2, 3])])
    save(model([node("If", ["c"], ["y"], then_branch=h, else_branch=h)], [info("c", [], TensorProto.BOOL), info("x", [2, 3])]), path)


@case("5 elements", flags=["-max-elements=5"])
def limit_elements(path):
    with_weight(path, numpy_helper.from_array(np.ones((2, 3), "f4"), "w"))


@case("large", flags=["-max-elements=5"])
def limit_result_elements(path):
    save(model([node("Concat", ["x", "x"], ["y"], axis=0)], [info("x", [1, 3])]), path)


@case("24 bytes", whole=True, flags=["-max-bytes=23"])
def limit_bytes(path):
    with_weight(path, numpy_helper.from_array(np.ones((2, 3), "f4"), "w"))


@case(flags=["-max-nodes=1", "-max-expansion=1", "-max-elements=6", "-max-bytes=24", "-max-nesting=1"])
def good_within_limits(path):
    with_weight(path, numpy_helper.from_array(np.ones((2, 3), "f4"), "w"))


# ------------------------------------------------------------------------------------------- good ones
@case()
def good(path):
    with_weight(path, numpy_helper.from_array(np.ones((2, 3), "f4"), "w"))


@case()
def good_external(path):
    with_weight(path, external("w", [2, 3], data_file(path, 64), offset=4, length=24))


@case()
def good_nan_scale(path):
    save(model([node("LeakyRelu", ["x"], ["y"], alpha=float("nan"))]), path)


@case()
def good_unicode_names(path):
    save(model([node("Relu", ["x"], ["y"], name="größe \"é\"\n")]), path)


@case()
def good_function(path):
    save(model([node("F", ["x"], ["y"], domain="f")], opsets=FOPS, functions=[function("F", [node("Relu", ["a"], ["b"])])]), path)


if __name__ == "__main__":
    sys.exit(refusals.main(CASES, WHOLE, FLAGS))
