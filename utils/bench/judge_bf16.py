#!/usr/bin/env python3
"""Who is right where bf16 answers differ: judge_bf16.py CASE ... [--systems dlc,ov-def,sdpa,torch] (cases: utils/bench/models.py)

Two references, for the answers of each system as max|a-b| / max|b|, and its mean square root |a-b| / that of b:

  exact   the model's operators in float64 on the operands as they are given (bf16 numbers), nothing rounded in between
  eager   the same, but each operator's result is rounded to bf16 where the model's own type is bf16, as operators run one by one do

The distance between the two is what the model's type costs whoever follows it. Runs in a Python with onnxruntime, and what the systems need.
"""
import argparse
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import peers  # noqa: E402

BF16, WIDE = TensorProto.BFLOAT16, TensorProto.DOUBLE


def widened(path, rounds):
    """The model with every bf16 and float32 tensor in float64; `rounds`: what was bf16 is rounded to it after each operator."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.output, *graph.input]}
    floats = (BF16, TensorProto.FLOAT)
    for i, tensor in enumerate(graph.initializer):
        if tensor.data_type in floats:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            graph.initializer[i].CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = WIDE
    del graph.value_info[:]
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in floats:
                attribute.i = WIDE
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in floats:
                array = numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
        nodes.append(node)
        if not rounds:
            continue
        for i, name in enumerate(node.output):
            if kinds.get(name) == BF16:
                node.output[i] = name + ".exact"
                nodes.append(helper.make_node("Cast", [name + ".exact"], [name + ".bf16"], to=BF16))
                nodes.append(helper.make_node("Cast", [name + ".bf16"], [name], to=WIDE))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def reference(case, rounds):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        onnx.save(widened(case.path, rounds), path, save_as_external_data=True)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {}
        for entry, (name, x) in zip(case.meta["inputs"], case.inputs().items()):
            feed[name] = x.astype(np.float64) if entry["dtype"] in ("bfloat16", "float32") else x
        return session.run(None, feed)


def as_floats(x):
    return np.asarray(x).astype(np.float64)


def apart(a, b):
    worst = max(np.abs(as_floats(x) - as_floats(y)).max() / max(np.abs(as_floats(y)).max(), 1e-300) for x, y in zip(a, b))
    mean = max(np.sqrt(((as_floats(x) - as_floats(y)) ** 2).mean() / max((as_floats(y) ** 2).mean(), 1e-300)) for x, y in zip(a, b))
    return f"{worst:.2e} ({mean:.1e})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--systems", default="dlc,ov-def,sdpa,torch")
    parser.add_argument("--folder", default="cases")
    parser.add_argument("--dlc-cmd", default="dlc {model} -o {out} -q")
    options = parser.parse_args()
    print("| case | answer | to exact: max (rms) | to eager | outside of the case's tolerance |\n|---|---|---|---|---|")
    for name in options.cases:
        case = peers.Case(os.path.join(options.folder, name))
        exact, eager = reference(case, False), reference(case, True)
        limit = case.meta["tolerance"]

        def row(who, answer):
            worst = float(apart(answer, exact).split()[0])
            print(f"| {name} | {who} | {apart(answer, exact)} | {apart(answer, eager)} | {'yes' if worst > limit else 'no'} ({limit:g}) |", flush=True)

        row("eager reference", eager)
        for system in options.systems.split(","):
            with tempfile.TemporaryDirectory() as work:
                try:
                    adapter = peers.SYSTEMS[system]()
                    call, fetch = adapter.load(case, adapter.prepare(case, work, options), 1)
                    call()
                    row(system, fetch())
                except Exception as error:  # noqa: BLE001  a peer that cannot is a row without numbers
                    print(f"| {name} | {system} | {str(error).splitlines()[0][:80]} | | |", flush=True)


if __name__ == "__main__":
    main()
