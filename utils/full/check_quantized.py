#!/usr/bin/env python3
"""Quantises a model with onnxruntime.quantization, compiles it and compares: check_quantized.py CASE [--target T]

CASES: a MobileNet v2 with QuantizeLinear / DequantizeLinear around every operator and in QLinear operators (static, 8 bits, a
scale a channel), and a BERT of four layers both static and dynamic (DynamicQuantizeLinear and MatMulInteger).

A sum in another order can round to the next of 256 steps, and later layers carry that on: onnxruntime with and without its optimizer
differ so too. But where no value falls on such an edge the results are the same to 1e-5. So several inputs are run, and
- on one of them at least the outputs must agree to 1e-4 with onnxruntime's (optimized or not), and with dlc's interpreter,
- on none may they be farther from onnxruntime's than the float model is, that is by more than quantisation costs.
The measure is the root mean square of the difference over the range of the output."""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "utils", "bench"), os.path.dirname(os.path.abspath(__file__))]
import dynamic  # noqa: E402

CASES = ("mobilenet_v2_qdq", "mobilenet_v2_qlinear", "bert_dynamic", "bert_qdq")


def session(path, optimize=True):
    """A function of a list of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in run.get_inputs()]
    return names, lambda arrays: run.run(None, dict(zip(names, arrays)))


def write_float(case, path):
    """The float model with static shapes; its seeded inputs, one list a run."""
    import models
    import torch

    if case.startswith("mobilenet"):
        module = models.init_weights(models.MobileNet(2), models.seed_of("mobilenet_v2"))
        runs = [dynamic.CASES["dyn_mobilenet_v2"].inputs(dict(batch=1, height=96, width=96, seed=i)) for i in range(8)]
        names, outputs = ["x"], ["logits"]
    else:
        module = models.init_weights(models.Bert(layers=4, h=256, heads=4, inter=1024, vocab=1000), models.seed_of("bert"))
        runs = [dynamic.text_inputs("bert", dict(batch=2, seq=24, seed=i), 1000) for i in range(8)]
        names, outputs = ["input_ids", "attention_mask", "token_type_ids"], ["hidden", "pooled"]
    with torch.no_grad():
        torch.onnx.export(module, tuple(map(torch.tensor, runs[0])), path, dynamo=True, opset_version=18, input_names=names, output_names=outputs,
                          external_data=False, verbose=False)
    return names, runs


def quantise(case, source, target, names, runs):
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    if case == "bert_dynamic":
        quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QInt8)
        return

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = [dict(zip(names, arrays)) for arrays in runs[1:]]

        def get_next(self):
            return self.left.pop() if self.left else None

    prepared = source + ".prepared.onnx"
    shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    form = quantization.QuantFormat.QOperator if case.endswith("qlinear") else quantization.QuantFormat.QDQ
    quantization.quantize_static(prepared, target, Reader(), quant_format=form, per_channel=not case.startswith("bert"),
                                 activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)


def distance(got, expected):
    """The root mean square of the difference over the range of the expected values; the largest over all outputs."""
    if [np.shape(a) for a in got] != [np.shape(b) for b in expected] or not all(np.isfinite(a).all() for a in got):
        return float("inf")
    return max(float(np.sqrt(np.mean((a - b) ** 2)) / (b.max() - b.min())) for a, b in zip(got, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--target", default="host", help="for dlc; of cuda, $DLC_CUDA_DRIVER may be the emulated driver")
    arguments = parser.parse_args()
    case = arguments.case
    import dlc
    import onnx

    folder = os.path.join(ROOT, "cases", "quant_" + case)
    os.makedirs(folder, exist_ok=True)
    source, target = os.path.join(folder, "float.onnx"), os.path.join(folder, "model.onnx")
    names, runs = write_float(case, source)
    quantise(case, source, target, names, runs)
    kinds = sorted({node.op_type for node in onnx.load(target).graph.node})
    print(f"{case}: {', '.join(kinds)}")
    plain, optimized, exact = session(target, optimize=False)[1], session(target)[1], session(source)[1]
    with tempfile.TemporaryDirectory() as work:
        library = os.path.join(work, "model.so")
        subprocess.run(["dlc", target, "-target=" + arguments.target, "-o", library], check=True)
        compiled, interpreter = dlc.load(library), dlc.compile(target, target="interp")
        found = {"onnxruntime": [], "interpreter": [], "the float model": [], "onnxruntime's other way": []}
        for arrays in runs:
            got, ways = compiled.run(arrays), [plain(arrays), optimized(arrays)]
            found["onnxruntime"].append(min(distance(got, way) for way in ways))
            found["interpreter"].append(distance(got, interpreter.run(arrays)))
            found["the float model"].append(distance(exact(arrays), ways[0]))
            found["onnxruntime's other way"].append(distance(ways[1], ways[0]))
    for name, values in found.items():
        print(f"{case}: {min(values):.2e} to {max(values):.2e} against {name}")
    far = min(found["the float model"])
    if far <= 1e-4:
        sys.exit("the judge takes the float model for the quantised one")
    wrong = [name for name in ("onnxruntime", "interpreter") if min(found[name]) > 1e-4 or max(found[name]) > far]
    sys.exit(f"{case}: too far from {' and '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
