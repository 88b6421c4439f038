"""Verifies and times every instance of kernel library '%NAME%'.

    python -m %NAME%.profile [--ops=GLOB] [--verify-only] [--threads=N] [--seconds=S] [--peers=numpy,torch,onnxruntime]
                             [--sizes=m=1,16,512 ...] [--most-work=N]

Each instance of this machine's CPUs runs on sizes that it takes (odd ones where they are free), its inputs end at
forbidden pages, its outputs lie between guard bytes, and the results are compared with float64. A control follows
each: with one row of an input turned around the comparison must fail. Standard output is CSV, a line an instance; `worst` is the largest
error in units of the gate, so 1 is the most allowed. With peers (those that are installed) the times are medians of
warm calls, a few in turn. A library for CUDA runs on device 0 (on what DLC_CUDA_DRIVER names, the emulated one too), its second set
of sizes on tensors that are not aligned; times are of calls that follow each other on a stream. The last line of standard error is `N verified, N failed, N skipped`; exit code 1 when one failed."""
import argparse
import csv
import ctypes
import fnmatch
import itertools
import math
import mmap
import os
import statistics
import sys
import time

# Threads that spin when their work is done would take cores from the next one in turn. OpenBLAS and OpenMP read these once.
for _name, _value in (("OPENBLAS_THREAD_TIMEOUT", "4"), ("OMP_WAIT_POLICY", "passive"), ("KMP_BLOCKTIME", "0"), ("GOMP_SPINCOUNT", "0")):
    os.environ.setdefault(_name, _value)
_threads = [word.partition("=")[2] for word in sys.argv if word.startswith("--threads=")]
os.environ.setdefault("OPENBLAS_NUM_THREADS", (_threads or [os.environ.get("DLC_NUM_THREADS", "")])[-1] or str(len(os.sched_getaffinity(0))))

import numpy as np  # noqa: E402

import %NAME% as library  # noqa: E402
from %NAME% import reference  # noqa: E402

GUARD = 256
PAGE = mmap.PAGESIZE


class Fenced:
    """An array whose last byte is the last of its page, with a page behind it that nobody may touch."""

    def __init__(self, array):
        self.size = (array.nbytes + PAGE - 1) // PAGE * PAGE
        self.map = mmap.mmap(-1, self.size + PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(base + self.size), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
        self.address = base + self.size - array.nbytes
        ctypes.memmove(self.address, array.ctypes.data, array.nbytes)


class Guarded:
    """Room for a result between bytes that must stay, at an odd multiple of its element's size."""

    def __init__(self, shape, dtype):
        dtype = np.dtype(dtype)
        count = math.prod(shape) * dtype.itemsize
        self.bytes = np.full(count + 2 * GUARD + dtype.itemsize, 0xA5, np.uint8)
        self.start, self.count = GUARD + dtype.itemsize, count
        self.array = self.bytes[self.start:self.start + count].view(dtype).reshape(shape)
        self.array[...] = np.array(77, dtype)

    def is_intact(self):
        return bool((self.bytes[:self.start] == 0xA5).all() and (self.bytes[self.start + self.count:] == 0xA5).all())


def pack(op, arrays, index):
    if not op.packed:
        return arrays
    name = op.packed["tensor"]
    return dict(arrays, **{name: op.pack(arrays[name], index)})


DEVICE = []  # the one this runs on, once it is opened


def get_device():
    if not DEVICE:
        from %NAME%.device import Device
        DEVICE.append(Device())
    return DEVICE[0]


def put_inputs(op, arrays):
    """Copies in the device's memory; what the library wants on the host stays there."""
    return {t["name"]: arrays[t["name"]] if op.is_on_host(t) else get_device().put(arrays[t["name"]])
            for t in reference.unpacked_inputs(op)}


def run_on_device(op, sizes, arrays, index, shift):
    """The same on a device: inputs in allocations of their own, outputs between guard bytes, all `shift` elements
    further than aligned."""
    device, left, places = get_device(), {}, {}
    for tensor in reference.unpacked_inputs(op):
        array = arrays[tensor["name"]]
        is_packed = op.packed and tensor["name"] == op.packed["tensor"]
        if op.is_on_host(tensor):
            places[tensor["name"]] = array
            continue
        skip = 0 if is_packed else shift * array.dtype.itemsize
        room = device.put(np.concatenate([np.zeros(skip, np.uint8), array.reshape(-1).view(np.uint8)]))
        left[tensor["name"]] = room
        places[tensor["name"]] = room.address + skip
        if is_packed:
            left[tensor["name"]] = places[tensor["name"]] = op.pack(device.put(array), index)
    guards = {}
    for tensor in op.outputs:
        guard = Guarded(op.shape(tensor, sizes), library.DTYPES[tensor["dtype"]])
        guard.bytes[:] = 0xA5
        guard.start = GUARD + shift * guard.array.dtype.itemsize
        guard.bytes[guard.start:guard.start + guard.count] = 77
        left[tensor["name"]] = device.put(guard.bytes)
        places[tensor["name"]] = left[tensor["name"]].address + guard.start
        guards[tensor["name"]] = guard
    op.run(sizes, [places[t["name"]] for t in op.tensors], index)
    results = {}
    for name, guard in guards.items():
        guard.bytes[:] = left[name].numpy()
        results[name] = guard.bytes[guard.start:guard.start + guard.count].view(guard.array.dtype).reshape(guard.array.shape)
    return results, all(g.is_intact() for g in guards.values())


def place(op, name, array, index):
    """Where a call finds an input: packed, or before a forbidden page."""
    if op.packed and name == op.packed["tensor"]:
        return op.pack(array, index)  # has an alignment of its own, and padded ends
    return Fenced(array)


def run_fenced(op, sizes, arrays, index, shift=0, kept=None):
    """The outputs by name, and whether the guard bytes are as they were. `kept` holds what placing an array gave, by its
    number, for further calls with it."""
    if library.ON_DEVICE:
        return run_on_device(op, sizes, arrays, index, shift)
    kept = {} if kept is None else kept
    outputs = {t["name"]: Guarded(op.shape(t, sizes), library.DTYPES[t["dtype"]]) for t in op.outputs}
    for name, array in arrays.items():
        if id(array) not in kept:
            kept[id(array)] = place(op, name, array, index)
    places = [outputs[t["name"]].array if t["output"] else kept[id(arrays[t["name"]])] for t in op.tensors]
    op.run(sizes, places, index)
    return {n: g.array for n, g in outputs.items()}, all(g.is_intact() for g in outputs.values())


def compare(op, results, expected):
    """The largest error in units of its gate; infinite where a number is missing."""
    worst = 0.0
    for tensor, (values, gates) in zip(op.outputs, expected):
        actual = reference.widen(results[tensor["name"]], tensor["dtype"])
        if actual.shape != values.shape:
            return math.inf
        if actual.size == 0:
            continue
        with np.errstate(all="ignore"):
            error = np.abs(actual - values) / np.maximum(gates, 1e-300)
        # Beyond the element type's range the right answer is infinite.
        limit = {"f16": 65504.0, "f32": 3.4e38, "bf16": 3.3e38}.get(tensor["dtype"], math.inf)
        error = np.where((np.abs(values) + gates > limit) & (np.isinf(actual) | (np.abs(actual) >= limit * 0.99)), 0, error)
        worst = max(worst, math.inf if np.isnan(error).any() else float(error.max()))
    return worst


def choose_sizes(op, instance, rng, limit):
    """Sizes an instance takes: the typical ones cut to `limit`, then odd ones; at most two sets."""
    sets = []
    for attempt in range(2):
        sizes = []
        for r in instance["ranges"]:
            low, high = r["min"], r["max"] if r["max"] is not None else 1 << 40
            if low == high:
                sizes.append(low)
            elif attempt == 0:
                sizes.append(min(high, max(low, 1, min(r["typical"], limit))))
            else:
                odd = [size for size in (1, 2, 3, 7, 17, 31, 33, 65) if size <= limit]
                sizes.append(int(min(high, max(low, rng.choice(odd)))))
        if sizes not in sets:
            sets.append(sizes)
    return sets


def turn_row(arrays, op):
    """The control: the last row of the first input of rank two and more, backwards."""
    for tensor in reference.unpacked_inputs(op):
        array = arrays[tensor["name"]]
        if array.ndim == 0 or array.size == 0 or tensor["dtype"] == "i64" or array.shape[-1] < 2:
            continue
        row = array.reshape(-1, array.shape[-1])[-1]
        if np.array_equal(row, row[::-1]):
            continue
        turned = array.copy()
        turned.reshape(-1, array.shape[-1])[-1] = row[::-1]
        return dict(arrays, **{tensor["name"]: turned})
    return None


def verify(op, index, rng, limit):
    """(worst error in units of the gate, what is wrong or '', whether the control was seen)."""
    worst, seen = 0.0, None
    for shift, sizes in enumerate(choose_sizes(op, op.instances[index], rng, limit)):
        arrays = reference.make_inputs(op, sizes, rng)
        expected = reference.reference(op, arrays)
        kept = {}
        results, intact = run_fenced(op, sizes, arrays, index, shift, kept)
        if not intact:
            return math.inf, f"writes beside its result at {sizes}", seen
        error = compare(op, results, expected)
        worst = max(worst, error)
        if not error <= 1:
            return worst, f"differs at {dict(zip(op.names, sizes))}", seen
        changed = turn_row(arrays, op)
        if changed is not None:
            results, _ = run_fenced(op, sizes, changed, index, shift, kept)
            found = compare(op, results, expected) > 1
            seen = found if seen is None else seen or found
    return worst, "", seen


# ---------------------------------------------------------------------------------------------------------------------
# Speed

def count_work(op, sizes):
    """(floating-point operations, bytes of all tensors)."""
    s = dict(zip(op.names, sizes))
    tensors = reference.unpacked_inputs(op) + op.outputs
    moved = sum(math.prod(op.shape(t, sizes)) * np.dtype(library.DTYPES[t["dtype"]]).itemsize for t in tensors)
    if op.kind in ("matmul", "quantized_matmul"):
        return 2 * s["m"] * s["n"] * s["k"] * s.get("batch", 1), moved
    if op.kind == "grouped_matmul":
        return 2 * s["rows"] * s["n"] * s["k"], moved
    if op.kind == "attention":
        tokens = s.get("tokens", 1)
        work = 4 * s["batch"] * s["heads"] * s["d"] * tokens * s.get("keys", tokens)
        return (work // 2 if op.attributes["mask"] == "causal" else work), moved
    if op.kind == "conv":
        y = op.shape(op.outputs[0], sizes)
        return 2 * math.prod(y) * math.prod(op.attributes["kernel"]) * s["channels"] // op.attributes["groups"], moved
    return 0, moved


def make_torch_peer(op, arrays):
    import torch
    import torch.nn.functional as F
    kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    if library.ON_DEVICE and not torch.cuda.is_available():
        return None

    def tensor(name):
        spec = next(t for t in reference.unpacked_inputs(op) if t["name"] == name)
        value = torch.from_numpy(arrays[name].view(np.int16)).view(kinds[spec["dtype"]]) if spec["dtype"] in (
            "bf16", "f16") else torch.from_numpy(arrays[name])
        return value.cuda() if library.ON_DEVICE and not op.is_on_host(spec) else value

    t = {spec["name"]: tensor(spec["name"]) for spec in op.inputs}
    at = op.attributes

    def finish(y):
        for step in at.get("epilogue", []):
            y = y + t[step] if step in ("bias", "residual") else y * t[step] if step == "multiply" else {
                "relu": F.relu, "gelu": F.gelu, "silu": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
                "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[step](y)
        return y

    if op.kind == "matmul":
        a, b = t["a"], t["b"]
        a = a.transpose(-1, -2) if at["layout"] == "tn" else a
        if at["layout"] == "nt" and a.dim() == 2:
            steps = at["epilogue"]
            if steps[:1] == ["bias"]:
                at = dict(at, epilogue=steps[1:])
                return lambda: finish(F.linear(a, b, t["bias"]))
            return lambda: finish(F.linear(a, b))
        b = b.transpose(-1, -2) if at["layout"] == "nt" else b
        return lambda: finish(torch.matmul(a, b))
    if op.kind == "attention":
        q, k, v = (t[n].transpose(1, 2) if at["layout"] == "tokens-first" else t[n] for n in "qkv")
        extra = {"is_causal": True} if at["mask"] == "causal" else {"attn_mask": t["mask"]} if at["mask"] == "additive" else {}
        if at["scale"]:
            extra["scale"] = at["scale"]
        shared = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
        return lambda: F.scaled_dot_product_attention(q, k, v, **extra, **shared)
    if op.kind == "softmax":
        return lambda: F.softmax(t["x"], -1)
    if op.kind in ("layer_norm", "rms_norm"):
        def norm():
            x = t["x"] + t["residual"] if at["residual"] else t["x"]
            shape = (x.shape[-1],)
            if op.kind == "layer_norm":
                return F.layer_norm(x, shape, t["weight"], t["bias"], at["epsilon"])
            return F.rms_norm(x, shape, t["weight"], at["epsilon"])
        return norm
    if op.kind == "conv":
        pads, steps = at["pads"], at["epilogue"]
        if pads[:2] != pads[2:]:
            return None
        bias = t["bias"] if steps[:1] == ["bias"] else None
        at = dict(at, epilogue=steps[1:] if bias is not None else steps)
        return lambda: finish(F.conv2d(t["x"], t["w"], bias, at["strides"], pads[:2], at["dilations"], at["groups"]))
    if op.kind == "grouped_matmul":
        ends = [int(e) for e in t["offsets"]]
        b = t["b"].transpose(1, 2) if at["layout"] == "nt" else t["b"]
        if at["epilogue"]:
            return None
        return lambda: [torch.matmul(t["a"][ends[g]:ends[g + 1]], b[g]) for g in range(len(ends) - 1)]
    return None


def make_numpy_peer(op, arrays):
    if op.kind != "matmul" or op.dtype != "f32" or op.attributes["epilogue"]:
        return None
    a, b, layout = arrays["a"], arrays["b"], op.attributes["layout"]
    a = np.swapaxes(a, -1, -2) if layout == "tn" else a
    b = np.swapaxes(b, -1, -2) if layout == "nt" else b
    return lambda: np.matmul(a, b)


def make_onnxruntime_peer(op, arrays, threads):
    if op.dtype == "bf16" or op.kind not in ("matmul", "softmax", "layer_norm") or op.attributes.get("epilogue") \
            or op.attributes.get("residual"):
        return None
    import onnxruntime
    from onnx import TensorProto, helper
    types = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16}
    names = [t["name"] for t in op.inputs]
    if op.kind == "matmul":
        layout = op.attributes["layout"]
        if layout != "nn" and arrays["a"].ndim != 2:
            return None
        node = helper.make_node("MatMul", names, ["y"]) if layout == "nn" else helper.make_node(
            "Gemm", names, ["y"], transA=int(layout == "tn"), transB=int(layout == "nt"))
    else:
        node = helper.make_node({"softmax": "Softmax", "layer_norm": "LayerNormalization"}[op.kind], names, ["y"], axis=-1)
    kind = types[op.dtype]
    # Beside packed weights they are constants of a model there, too: it packs them before the run.
    constant = [helper.make_tensor("b", kind, arrays["b"].shape, arrays["b"].tobytes(), raw=True)] if op.packed else []
    inputs = [n for n in names if not constant or n != "b"]
    graph = helper.make_graph([node], "peer", [helper.make_tensor_value_info(n, kind, arrays[n].shape) for n in inputs],
                              [helper.make_tensor_value_info("y", kind, None)], constant)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {n: arrays[n].view(np.float16) if op.dtype == "f16" else arrays[n] for n in inputs}
    return lambda: session.run(None, feeds)


def measure(functions, seconds):
    """Median seconds of each, warm: they run in turn, a few times each, the first of which is not counted. Each has inputs of
    its own: who shares them would find them in the caches, brought there by the one before. One that is far from the best and whose
    call takes longer than all that it may is called twice; the second call is what it takes."""
    times = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        times[name] = [time.perf_counter() - start]
    best = min(times.values())[0]
    turns = {name: function for name, function in functions.items() if times[name][0] <= max(seconds, 2 * best)}
    for name in turns:
        times[name] = []
    end, first = time.perf_counter() + seconds * len(turns), times[next(iter(turns))]
    while not first or (time.perf_counter() < end and len(first) < 2000):
        for name, function in turns.items():
            function()
            for _ in range(3):
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(samples) for name, samples in times.items()}


def measure_on_device(functions, seconds):
    """The same for functions that return before their work is done: batches of calls, with the wait for the last."""
    device, times = get_device(), {name: [] for name in functions}

    def batch(function, count):
        start = time.perf_counter()
        for _ in range(count):
            function()
        device.synchronize()
        return (time.perf_counter() - start) / count

    counts = {}
    for name, function in functions.items():
        batch(function, 3)
        counts[name] = max(1, min(1000, int(0.005 / batch(function, 3))))
    end = time.perf_counter() + seconds * len(functions)
    while not times[next(iter(times))] or time.perf_counter() < end:
        for name, function in functions.items():
            times[name].append(batch(function, counts[name]))
    return {name: statistics.median(samples) for name, samples in times.items()}


def choose_timed(op, instance, wanted):
    """The sets of sizes that are timed: the typical ones, or the wanted ones that the instance takes."""
    choices = []
    for name, r in zip(op.names, instance["ranges"]):
        high = r["max"] if r["max"] is not None else 1 << 62
        choices.append([size for size in wanted.get(name, [r["typical"] if r["min"] != r["max"] else r["min"]])
                        if r["min"] <= size <= high])
    return [list(sizes) for sizes in itertools.product(*choices)]


def profile(op, index, sizes, options, rng):
    """{"dlc": seconds, peer: seconds}."""
    arrays = reference.make_inputs(op, sizes, rng)
    make = get_device().empty if library.ON_DEVICE else np.empty
    outputs = [make(op.shape(t, sizes), library.DTYPES[t["dtype"]]) for t in op.outputs]
    left = iter(outputs)
    given = pack(op, put_inputs(op, arrays) if library.ON_DEVICE else arrays, index)
    places = [next(left) if t["output"] else given[t["name"]] for t in op.tensors]
    dims = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
    pointers = (ctypes.c_void_p * len(places))(*[library._address_of(p) for p in places])
    call, last = library._lib.%NAME%_run_instance, [None] * library.ON_DEVICE
    functions = {"dlc": lambda: call(op._address, index, dims, pointers, *last)}
    for peer in options.peers:
        if library.ON_DEVICE and peer != "torch":
            continue
        try:
            own = {name: array.copy() for name, array in arrays.items()}
            function = (make_torch_peer(op, own) if peer == "torch" else make_numpy_peer(op, own) if peer == "numpy"
                        else make_onnxruntime_peer(op, own, options.threads))
        except ImportError:
            continue
        if function:
            functions[peer] = function
    return (measure_on_device if library.ON_DEVICE else measure)(functions, options.seconds)


def main():
    parser = argparse.ArgumentParser(prog="python -m %NAME%.profile", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default="*", help="names of operations, a glob")
    parser.add_argument("--instances", default="*", help="names of instances, a glob")
    parser.add_argument("--cpu", default="*", help="names of CPUs, a glob")
    parser.add_argument("--verify-only", action="store_true")
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("DLC_NUM_THREADS", 0)) or len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=0.3, help="for each instance and peer")
    parser.add_argument("--peers", default="numpy,torch,onnxruntime")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sizes", action="append", default=[], help="of an open dim, for the times: m=1,16,512")
    parser.add_argument("--limit", type=int, default=70, metavar="SIZE", help="largest free size when verifying")
    parser.add_argument("--most-work", type=float, default=math.inf, help="operations of a product; instances with more are skipped")
    options = parser.parse_args()
    wanted = {}
    for text in options.sizes:
        name, _, values = text.partition("=")
        wanted[name] = [int(v) for v in values.split(",")]
    options.peers = [p for p in options.peers.split(",") if p] if not options.verify_only else []
    library.set_num_threads(options.threads)
    if "torch" in options.peers:
        try:
            import torch
            torch.set_num_threads(options.threads)
        except ImportError:
            options.peers.remove("torch")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["operation", "instance", "cpu", "sizes", "verified", "worst", "control", "us", "gflops", "gbs"]
                 + [p + "_us" for p in options.peers] + ["best_peer", "speedup"])
    counts = {"verified": 0, "failed": 0, "skipped": 0}
    for op in library.operations.values():
        if not fnmatch.fnmatch(op.name, options.ops):
            continue
        for index, instance in enumerate(op.instances):
            if not fnmatch.fnmatch(instance["name"], options.instances) or not fnmatch.fnmatch(instance["cpu"], options.cpu):
                continue
            rng = np.random.default_rng(options.seed)
            row = [op.name, instance["name"], instance["cpu"]]
            if op.kind not in reference.KINDS:  # a kernel of a model
                counts["skipped"] += 1
                out.writerow(row + ["", "no reference"])
                continue
            typical = choose_sizes(op, instance, rng, options.limit)[0]
            if count_work(op, typical)[0] > options.most_work:
                counts["skipped"] += 1
                out.writerow(row + ["", "skipped"])
                continue
            try:
                worst, wrong, seen = (0, "", None) if options.no_verify else verify(op, index, rng, options.limit)
            except library.LibraryError as error:
                if error.status != (8 if library.ON_DEVICE else 7):  # another CPU's, or device's
                    raise
                counts["skipped"] += 1
                out.writerow(row + ["", "skipped"])
                continue
            if not wrong and seen is False:
                wrong = "the control was not seen"
            counts["failed" if wrong else "verified"] += 1
            if wrong:
                print(f"{op.name} ({instance['name']}, {instance['cpu']}): {wrong}, {worst:.3g} gates", file=sys.stderr)
            verdict = ["no" if wrong else "" if options.no_verify else "yes", f"{worst:.3g}",
                       "" if seen is None else "seen" if seen else "missed"]
            if options.verify_only:
                out.writerow(row + [""] + verdict)
            for sizes in [] if options.verify_only else choose_timed(op, instance, wanted):
                times = profile(op, index, sizes, options, rng)
                work, moved = count_work(op, sizes)
                own = times.pop("dlc")
                best = min(times, key=times.get, default="")
                cells = ["x".join(map(str, sizes))] + verdict
                cells += [f"{own * 1e6:.2f}", f"{work / own / 1e9:.1f}", f"{moved / own / 1e9:.1f}"]
                cells += [f"{times[p] * 1e6:.2f}" if p in times else "" for p in options.peers]
                out.writerow(row + cells + [best, f"{times[best] / own:.3f}" if best else ""])
            sys.stdout.flush()
    print(f"{counts['verified']} verified, {counts['failed']} failed, {counts['skipped']} skipped", file=sys.stderr)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
