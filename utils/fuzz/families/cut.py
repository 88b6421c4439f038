"""Parts cut from models: a run of nodes, with the values that the whole model has at the cut as inputs.

Models: the .onnx files in the folder that DLC_FUZZ_MODELS names (real, trained ones; `utils/demo.sh` leaves one in build/demo,
utils/bench/real_models.py writes others), else in build/demo, else graphs of the other families. A model's own inputs are drawn
uniformly from [-1, 1]; symbolic ones are 1, and 48
from the third axis on."""
import functools
import glob
import os

import numpy as np
import onnx
from onnx import helper

import evaluate

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
FALLBACK = ["transformer", "conv", "norms", "diamonds"]
LARGEST = 1 << 22  # bytes of a value at the cut


def model_files():
    folder = os.environ.get("DLC_FUZZ_MODELS") or os.path.join(ROOT, "build", "demo")
    return sorted(glob.glob(os.path.join(folder, "**", "*.onnx"), recursive=True))


@functools.lru_cache(maxsize=2)
def load(path):
    """(model, feed) of a file, opset and values as the evaluation wants them."""
    model = onnx.load(path)
    weights = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(1)
    feed = {}
    for i in model.graph.input:
        if i.name in weights:
            continue
        dims = i.type.tensor_type.shape.dim
        shape = [d.dim_value if d.HasField("dim_value") else 48 if k >= 2 else 1 for k, d in enumerate(dims)]
        for d, n in zip(dims, shape):
            d.dim_value = n
        dtype = helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        feed[i.name] = (rng.uniform(-1, 1, shape) if dtype.kind == "f" else rng.integers(0, 2, shape)).astype(dtype)
    return model, feed


def values_of(model, feed, names):
    """{name: Value} of these values of the model."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names)
    return dict(zip(names, evaluate.Plan(copy).run(feed)))


def cut(model, feed, first, count):
    """(model of nodes first..first+count-1, feed), or None when a value at the cut cannot be an input."""
    nodes = list(model.graph.node[first : first + count])
    weights = {t.name: t for t in model.graph.initializer}
    made = {n for node in nodes for n in node.output if n}
    reads = [n for node in nodes for n in node.input if n]
    inputs = sorted({n for n in reads if n not in made and n not in weights})
    rest = {n for node in model.graph.node[first + count :] for n in node.input} | {o.name for o in model.graph.output}
    outputs = sorted(n for n in made if n in rest or n not in reads)
    if not inputs or not outputs:
        return None
    values = values_of(model, feed, inputs + outputs)
    infos, part = [], {}
    for name in inputs:
        value = values[name]
        dtype = helper.tensor_dtype_to_np_dtype(value.type)
        if value.array.nbytes > LARGEST or not np.all(np.isfinite(value.array.astype(np.float64))):
            return None
        part[name] = value.array.astype(dtype)
        infos.append(helper.make_tensor_value_info(name, value.type, value.array.shape))
    results = [helper.make_tensor_value_info(n, values[n].type, values[n].array.shape) for n in outputs]
    graph = helper.make_graph(nodes, "cut", infos, results, [weights[n] for n in sorted(set(reads)) if n in weights])
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(made)
    return made, [part]


def make(seed, ops, symbolic):
    rng = np.random.default_rng(seed)
    files = model_files()
    for _ in range(20):
        if files:
            model, feed = load(files[int(rng.integers(len(files)))])
        else:
            import graphs

            case = graphs.make(FALLBACK[int(rng.integers(len(FALLBACK)))], int(rng.integers(1 << 16)), 2 * ops)
            model, feed = case.model, case.feeds[0]
        total = len(model.graph.node)
        count = min(ops, total)
        part = cut(model, feed, int(rng.integers(total - count + 1)), count)
        if part:
            return part
    raise RuntimeError("no part of the models can be cut out")
