#!/usr/bin/env python3
"""Models as onnxruntime's own tools write them, with com.microsoft operators, compiled and compared: check_contrib.py CASE

CASES: what onnxruntime.transformers makes of BERT (Attention, SkipLayerNormalization, BiasGelu ...), what onnxruntime saves after
its extended optimizations of BERT and of a MobileNet (FusedConv, FusedGemm, FusedMatMul ...), and a Llama whose weights
onnxruntime's quantiser packed to 4 bits (MatMulNBits). All keep their symbolic dims; one compilation each. At each size
max|a-b| / max|b| of every output must be at most 1e-4 against onnxruntime on the same model, and the model must hold the
operators that the case is about."""
import argparse
import os
import subprocess
import sys
import tempfile

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "utils", "bench"), os.path.dirname(os.path.abspath(__file__))]
import dynamic  # noqa: E402
from check_dynamic import run_onnxruntime, worst  # noqa: E402


def by_transformers(source, target):
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_gelu_approximation = True
    made = optimizer.optimize_model(source, model_type="bert", num_heads=12, hidden_size=768, optimization_options=options)
    made.save_model_to_file(target)


def by_onnxruntime(source, target):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = target
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def by_quantiser(source, target):
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer

    quantiser = matmul_nbits_quantizer.MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=False)
    quantiser.process()
    quantiser.model.save_model_to_file(target)


CASES = {  # name: (case of dynamic.py, tool, one operator that must be there)
    "bert_transformers": ("dyn_bert_base", by_transformers, "SkipLayerNormalization"),
    "bert_ort": ("dyn_bert_base", by_onnxruntime, "FusedMatMul"),
    "mobilenet_v3_ort": ("dyn_mobilenet_v3_large", by_onnxruntime, "FusedConv"),
    "llama2_4bit": ("dyn_llama2_decode", by_quantiser, "MatMulNBits"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    name = parser.parse_args().case
    source, tool, wanted = CASES[name]
    import dlc
    import onnx

    case, failed = dynamic.CASES[source], 0
    target = os.path.join(ROOT, "cases", "contrib_" + name, "model.onnx")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    tool(dynamic.write(source, os.path.join(ROOT, "cases")), target)
    kinds = sorted({node.op_type for node in onnx.load(target, load_external_data=False).graph.node if node.domain == "com.microsoft"})
    print(f"{name}: com.microsoft {', '.join(kinds)}")
    if wanted not in kinds:
        sys.exit(f"{name}: no {wanted} in the model")
    with tempfile.TemporaryDirectory() as work:
        library = os.path.join(work, "model.so")
        subprocess.run(["dlc", target, "-target=host", "-o", library], check=True)
        compiled, reference = dlc.load(library), run_onnxruntime(target)
        for sizes in case.sizes:
            arrays = case.inputs(sizes)
            error = worst(compiled.run(arrays), reference(arrays), case.tolerance)
            failed += not error <= case.tolerance
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in sizes.items()) + f": {error:.2e} against onnxruntime", flush=True)
    print(f"{name}: {len(case.sizes)} sizes from one compilation, {failed} failed (limit {case.tolerance:.0e})")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
