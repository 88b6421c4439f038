"""Parts cut from models: a run of nodes, with the values that the whole model has at the cut as inputs.

Models: the .onnx files in the folder that DLC_FUZZ_MODELS names (real, trained ones; `utils/demo.sh` leaves one in build/demo,
utils/bench/real_models.py writes others), else in build/demo, else graphs of the other families. A model's own inputs are drawn
uniformly from [-1, 1]; symbolic sizes are 1, and 48 from the third axis on. Files have fewer nodes than are asked for: several
parts of one model stand side by side."""
import functools
import glob
import os

import numpy as np
import onnx
import onnx.compose
import onnx.numpy_helper
from onnx import helper

import evaluate

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
FALLBACK = ["transformer", "conv", "norms", "diamonds"]
LARGEST = 1 << 22  # bytes of a value at the cut
FEW = 64  # elements of an integer tensor that is known to be sizes or positions, not data


def model_files():
    folder = os.environ.get("DLC_FUZZ_MODELS") or os.path.join(ROOT, "build", "demo")
    return sorted(glob.glob(os.path.join(folder, "**", "*.onnx"), recursive=True))


@functools.lru_cache(maxsize=2)
def load(path):
    """(model, {name: Value} of what it computes) of a file; values larger than LARGEST are left out."""
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
    return model, values_of(model, feed)


def values_of(model, feed):
    names = [*feed, *(n for node in model.graph.node for n in node.output if n)]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names)
    return {n: v for n, v in zip(names, evaluate.Plan(copy).run(feed)) if v.array.nbytes <= LARGEST}


def cut(model, values, first, count):
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
    if any(n not in values for n in inputs + outputs):
        return None
    infos, part, sizes = [], {}, []
    for name in inputs:
        value = values[name]
        dtype = helper.tensor_dtype_to_np_dtype(value.type)
        if value.array.dtype.kind == "i" and value.array.size <= FEW:  # what the model reshapes to, slices from
            sizes.append(onnx.numpy_helper.from_array(value.array.astype(dtype), name))
            continue
        if not np.all(np.isfinite(value.array.astype(np.float64))):
            return None
        part[name] = value.array.astype(dtype)
        infos.append(helper.make_tensor_value_info(name, value.type, value.array.shape))
    results = [helper.make_tensor_value_info(n, values[n].type, values[n].array.shape) for n in outputs]
    if not infos:
        return None
    graph = helper.make_graph(nodes, "cut", infos, results, [weights[n] for n in sorted(set(reads)) if n in weights] + sizes)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(made)
    return made, [part]


def join(parts):
    """One (model, feeds) of parts of one model, side by side."""
    graph, feed = None, {}
    for number, (part, [own]) in enumerate(parts):
        prefixed = onnx.compose.add_prefix(part, f"p{number}_")
        feed.update({f"p{number}_{name}": array for name, array in own.items()})
        if graph is None:
            made, graph = prefixed, prefixed.graph
            continue
        for field in ("node", "initializer", "input", "output"):
            getattr(graph, field).extend(getattr(prefixed.graph, field))
    return made, [feed]


def make(seed, ops, symbolic):
    rng = np.random.default_rng(seed)
    files = model_files()
    if files:
        model, values = load(files[int(rng.integers(len(files)))])
    else:
        import graphs

        case = graphs.make(FALLBACK[int(rng.integers(len(FALLBACK)))], int(rng.integers(1 << 16)), 2 * ops)
        model, values = case.model, values_of(case.model, case.feeds[0])
    total, parts, wanted = len(model.graph.node), [], ops
    for _ in range(100):
        count = min(wanted, total if total > ops else int(rng.integers(total // 4, total // 2 + 1)))
        part = cut(model, values, int(rng.integers(total - count + 1)), count)
        if part:
            parts.append(part)
            wanted -= count
        if wanted <= 0:
            return join(parts)
    raise RuntimeError("no part of the models can be cut out")
