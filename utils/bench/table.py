#!/usr/bin/env python3
"""The goals for kernels on the CPU and what is reached, in one run: table.py [part ...] [--threads 1 2]

Run by `utils/bench-x86 --table`. Parts: products (fractions of the machine's peaks), gemv (of its read bandwidth), epilogue, overhead (of a call),
classes (beside the peers over rows.txt), memory, compile, unfused; default: all. Peaks are measured by peak.c in the same run, peers in turns with
dlc as compare.py does. Prints one line a goal, `reached` last; a line below its goal ends in `below`. Exits 1 when a result was
wrong or dlc failed, not when a goal is missed: single figures move by 10 % with the machine."""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import compare

SHAPES = [(1024, 1024, 1024), (128, 4096, 4096), (77, 1000, 513), (512, 4096, 4096)]
# class, cases (none: all of it), -fp, then geometric mean and least of best peer / dlc for 1 and 2 threads (0: no goal)
CLASSES = [("conv", [], "reassoc", (1.02, 0.97), (1.02, 0.97)),
           ("conv", [], "fast-conv", (1.15, 1.0), (1.15, 1.0)),
           ("dwconv", [], "reassoc", (2, 0), (1.5, 0)),
           ("sub", ["sub_layernorm", "sub_rmsnorm", "sub_gelu_tanh", "sub_silu_mul"], "reassoc", (1.15, 0), (1.1, 0)),
           ("sub", ["sub_softmax"], "reassoc", (1.15, 0), (1.0, 0)),
           ("cnn", [], "reassoc", (1.03, 0.97), (1.03, 0.95)),
           ("bert", [], "reassoc", (1.03, 0.97), (1.03, 0.95)),
           ("real", [], "reassoc", (1.03, 0.97), (1.03, 0.95))]
FAILED = []


def line(what, against, goal, reached, note=""):
    """One row of the table; `goal` is (">=" or "<=", number)."""
    sign, bound = goal
    missed = reached is None or (reached < bound if sign == ">=" else reached > bound)
    shown = "-" if reached is None else f"{reached:.2f}"
    print(f"| {what} | {against} | {sign} {bound} | {shown}{' below' if missed and sign == '>=' else ' above' if missed else ''} | {note} |", flush=True)


def peaks(folder, threads):
    """{name: rate} of peak.c's lines, G/s."""
    program = os.path.join(folder, "peak")
    if not os.path.exists(program):
        subprocess.run(["cc", "-O3", "-march=native", "-funroll-loops", "-pthread", os.path.join(compare.HERE, "peak.c"), "-o", program], check=True)
    found = {}
    for text in subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout.splitlines():
        name, _, rate = text.partition("  ")[2].strip().rpartition(" ")
        if not rate.endswith("CPU"):  # "not on this CPU"
            found[name.strip()] = float(rate)
    return found


def rate_of(found, *words):
    """The rate of the first line that has all `words`; None without one."""
    return next((rate for name, rate in found.items() if all(word in name for word in words)), None)


def save(path, nodes, inputs, result, constants, domain=""):
    graph = helper.make_graph(nodes, "table", inputs, [result], constants)
    opsets = [helper.make_opsetid("", 21)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def product_model(path, m, n, k, kind, epilogue=False):
    """x [m, k] times constant weights [k, n]; f32, bf16, u8 x i8 (i32); weights alone narrow: bf16w, i8w (a scale a column), i4w
    (MatMulNBits, blocks of 32). Returns the input and the expected result (float64)."""
    random = np.random.default_rng(5)
    x, w = random.standard_normal((m, k)).astype(np.float32), random.standard_normal((k, n)).astype(np.float32)
    value = helper.make_tensor_value_info
    f32, y = TensorProto.FLOAT, value("y", TensorProto.FLOAT, [m, n])
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    if kind == "f32":
        nodes, constants = [product], [numpy_helper.from_array(w, "w")]
        expected = x.astype(np.float64) @ w
        if epilogue:
            bias = random.standard_normal(n).astype(np.float32)
            nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["s"]), helper.make_node("Gelu", ["s"], ["y"])]
            constants.append(numpy_helper.from_array(bias, "b"))
            s = expected + bias
            expected = 0.5 * s * (1 + np.vectorize(math.erf)(s / math.sqrt(2)))
        save(path, nodes, [value("x", f32, [m, k])], y, constants)
        return x, expected
    if kind == "bf16":
        bf16 = helper.make_tensor("w", TensorProto.BFLOAT16, [k, n], to_bf16(w).tobytes(), raw=True)
        save(path, [product], [value("x", TensorProto.BFLOAT16, [m, k])], value("y", TensorProto.BFLOAT16, [m, n]), [bf16])
        return to_bf16(x), from_bf16(to_bf16(x)).astype(np.float64) @ from_bf16(to_bf16(w))
    if kind == "int8":
        a, b = random.integers(0, 255, (m, k), np.uint8), random.integers(-127, 127, (k, n), np.int8)
        node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
        save(path, [node], [value("x", TensorProto.UINT8, [m, k])], value("y", TensorProto.INT32, [m, n]), [numpy_helper.from_array(b, "w")])
        return a, a.astype(np.float64) @ b.astype(np.float64)
    if kind == "bf16w":
        bf16 = helper.make_tensor("c", TensorProto.BFLOAT16, [k, n], to_bf16(w).tobytes(), raw=True)
        save(path, [helper.make_node("Cast", ["c"], ["w"], to=f32), product], [value("x", f32, [m, k])], y, [bf16])
        return x, x.astype(np.float64) @ from_bf16(to_bf16(w))
    if kind == "i8w":
        q, scale = random.integers(-127, 127, (k, n), np.int8), random.random(n).astype(np.float32)
        constants = [numpy_helper.from_array(q, "q"), numpy_helper.from_array(scale, "scale")]
        save(path, [helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], axis=1), product], [value("x", f32, [m, k])], y, constants)
        return x, x.astype(np.float64) @ (q * scale.astype(np.float64))
    block = 32
    q, scale = random.integers(0, 16, (n, k), np.uint8), random.random((n, k // block)).astype(np.float32)
    constants = [numpy_helper.from_array((q[:, 0::2] | q[:, 1::2] << 4).reshape(n, k // block, block // 2), "q"), numpy_helper.from_array(scale.reshape(-1), "scale")]
    node = helper.make_node("MatMulNBits", ["x", "q", "scale"], ["y"], domain="com.microsoft", K=k, N=n, bits=4, block_size=block)
    save(path, [node], [value("x", f32, [m, k])], y, constants, "com.microsoft")
    return x, x.astype(np.float64) @ ((q.astype(np.float64) - 8) * np.repeat(scale, block, axis=1)).T


def to_bf16(array):
    """float32 rounded to bf16, as bit patterns."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def load(folder, name, model, flags=()):
    """The compiled model."""
    import dlc
    library = os.path.join(folder, name + ".so")
    compiler = shutil.which("dlc") or os.path.join(compare.ROOT, "build", "bin", "dlc")
    subprocess.run([compiler, model, "-target=host", "-q", *flags, "-o", library], check=True)
    return dlc.load(library)


def prepare(folder, m, n, k, kind, flags=(), epilogue=False):
    """A call of a product; the name is recorded as failed when its result is wrong."""
    name = f"{kind}_{m}_{n}_{k}{'_e' if epilogue else ''}{len(flags)}"
    path = os.path.join(folder, name + ".onnx")
    x, expected = product_model(path, m, n, k, kind, epilogue)
    model = load(folder, name, path, flags)
    x = x.view(model.inputs[0]["dtype"]) if kind == "bf16" else x
    got = np.asarray(model.run({"x": x})[0]).astype(np.float64)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    if not error < (1e-2 if kind == "bf16" or flags else 1e-5):
        FAILED.append(f"{name}: error {error:.1e}")
    return lambda: model.run({"x": x})


def fastest(calls, seconds):
    """The fastest seconds of each call, in turns."""
    best, end = [math.inf] * len(calls), time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def products(folder, threads, seconds):
    found = peaks(folder, threads)
    kinds = [("f32", ("fp32 FMA",), SHAPES, (0.95, 0.90)), ("bf16", ("bf16 vdpbf16ps",), SHAPES, (0.93, 0.85)),
             ("bf16", ("bf16", "tdp"), SHAPES, (0.93, 0.85)), ("int8", ("int8 vpdpbusd",), SHAPES[:1], (0.80, 0.75)),
             ("int8", ("int8", "tdp"), SHAPES[:1], (0.80, 0.75))]
    for kind, words, shapes, goals in kinds:
        peak = rate_of(found, *words)
        if not peak:
            continue
        for m, n, k in shapes:
            [best] = fastest([prepare(folder, m, n, k, kind)], seconds)
            rate = 2e-9 * m * n * k / best
            line(f"{kind} {m}x{n}x{k}, {threads} threads", f"peak of {' '.join(words)}, {peak:.0f} G/s", (">=", goals[threads > 1]), rate / peak, f"{rate:.0f} G/s")


def gemv(folder, threads, seconds):
    read = rate_of(peaks(folder, threads), "DRAM read")
    narrow = [("i8w", 8, 0.9, ()), ("i4w", 5, 0.6, ()), ("i4w", 5, 0.9, ("-precision=bf16",))]
    wide = [("f32", 32, 0.9, ()), ("bf16w", 16, 0.9, ())]
    # Narrow weights are larger than a last-level cache of 32 MB in the second shape only.
    for n, k, (kind, bits, goal, flags) in [(11008, 4096, case) for case in wide + narrow] + [(14336, 8192, case) for case in narrow]:
        try:
            [best] = fastest([prepare(folder, 1, n, k, kind, flags)], seconds)
        except subprocess.CalledProcessError:
            line(f"1x{n}x{k}, {kind} weights {' '.join(flags)}, {threads} threads", "read bandwidth", (">=", goal), None, "dlc refuses the flags")
            continue
        rate = 1e-9 * n * k * bits / 8 / best
        line(f"1x{n}x{k}, {kind} weights {' '.join(flags)}, {threads} threads", f"read bandwidth, {read:.1f} GB/s", (">=", goal), rate / read, f"{best * 1e3:.2f} ms, {rate:.1f} GB/s")


def epilogue(folder, threads, seconds):
    for m, n, k in SHAPES[:2]:
        bare, whole = fastest([prepare(folder, m, n, k, "f32"), prepare(folder, m, n, k, "f32", epilogue=True)], seconds)
        line(f"{m}x{n}x{k} + bias + GELU, {threads} threads", "the product alone, in turns", ("<=", 1.05), whole / bare, f"{whole * 1e3:.2f} ms")


def measured(rows, arguments, threads, command, systems, folder):
    """{case: {system: row}}, measured now."""
    results = os.path.join(folder, f"results{threads}.json")
    options = argparse.Namespace(**{**vars(arguments), "threads": [threads], "dlc_cmd": command})
    compare.make_cases(rows, arguments.cases)
    found = {}
    for case in rows:
        found[case] = {system: row for (system, _), row in compare.measure(case, systems, options, results, quiet=True).items() if system in systems}
        if not compare.good(found[case].get("dlc")):
            FAILED.append(f"{case}: dlc failed or was wrong")
    return found


def ratios(found, peers):
    """{case: best peer / dlc}."""
    result = {}
    for case, rows in found.items():
        best = min((rows[peer]["median_ms"] for peer in peers if compare.good(rows.get(peer))), default=None)
        if best and compare.good(rows.get("dlc")):
            result[case] = best / rows["dlc"]["median_ms"]
    return result


def mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def classes(folder, threads, arguments):
    for name, cases, mode, *goals in CLASSES:
        rows = cases or [case for _, case in compare.read_rows([name], 0)]
        found = measured(rows, arguments, threads, f"dlc {{model}} -target=x86 -fp={mode} -o {{out}}", [*arguments.peers, "dlc"], folder)
        values = ratios(found, arguments.peers)
        geometric, least = goals[threads > 1]
        what = f"{name}{' (' + ', '.join(cases) + ')' if cases else ''}, {mode}, {threads} threads"
        worst = min(values, key=values.get, default="-")
        line(what, "best peer", (">=", geometric), mean(values.values()), "geometric mean")
        if least:
            line(what, "best peer", (">=", least), values.get(worst), f"least: {worst}")


def memory(folder, threads, arguments):
    """Peak memory beside the leaner peer's, and load time beside onnxruntime's session."""
    rows = [case for name in ("cnn", "bert", "real") for _, case in compare.read_rows([name], 0)]
    found = measured(rows, arguments, threads, "dlc {model} -target=x86 -o {out}", [*arguments.peers, "dlc"], folder)
    for case, systems in found.items():
        lean = min((systems[peer]["rss_mb"] for peer in arguments.peers if compare.good(systems.get(peer))), default=None)
        own = systems.get("dlc")
        if lean and compare.good(own):
            line(f"{case}: peak memory of the process", "leaner peer", ("<=", 1), own["rss_mb"] / lean, f"{own['rss_mb']:.0f} MB")
        ort = systems.get("ort")
        if compare.good(ort) and compare.good(own):
            took = own["load_s"] + max(own["first_s"] - own["median_ms"] / 1e3, 0)
            line(f"{case}: load", "onnxruntime's session creation", ("<=", 0.5), took / ort["load_s"], f"{took * 1e3:.1f} ms")


def overhead(folder, seconds):
    """What the program spends on a kernel's call: a chain of kernels of 16 elements, their work counted with it; then with another size each run."""
    calls, f32 = 1000, TensorProto.FLOAT
    names = ["x"] + [f"t{i}" for i in range(calls - 1)] + ["y"]
    nodes = [helper.make_node("Add", [a, "x"], [b]) for a, b in zip(names, names[1:])]
    for what, size in (("sizes known", 16), ("another size each run", "n")):
        path = os.path.join(folder, f"chain_{size}.onnx")
        save(path, nodes, [helper.make_tensor_value_info("x", f32, [size])], helper.make_tensor_value_info("y", f32, [size]), [])
        model = load(folder, f"chain_{size}", path, ["-fuse=off"])
        inputs = [np.ones(16, np.float32), np.ones(16 if size == 16 else 15, np.float32)]
        if not all((np.asarray(model.run({"x": x})[0]) == calls + 1).all() for x in inputs):
            FAILED.append(f"overhead, {what}: a wrong result")

        def run():
            for x in inputs:
                model.run({"x": x})

        best = fastest([run], seconds)[0] / len(inputs) / calls
        line(f"a call of a kernel, {what}", "us", ("<=", 1), best * 1e6, f"{calls} calls a run, {best * calls * 1e6:.0f} us")


def compile_time(folder, arguments):
    import compile_cost
    compiler = shutil.which("dlc") or os.path.join(compare.ROOT, "build", "bin", "dlc")
    compare.make_cases(["resnet50", "bert_base_s128"], arguments.cases)
    for case in ("resnet50", "bert_base_s128"):
        runs = [compile_cost.compile_once(compiler, os.path.join(arguments.cases, case, "model.onnx"), os.path.join(folder, case + ".so")) for _ in range(2)]
        wall, cpu = min(run[0] for run in runs), min(run[1] for run in runs)
        line(f"{case}: seconds to compile, -j2", "wall", ("<=", 5), wall)
        line(f"{case}: seconds to compile, -j2", "CPU", ("<=", 10), cpu)
    model = os.path.join(folder, "candidates.onnx")
    product_model(model, 512, 512, 512, "f32")
    start = time.perf_counter()
    tuned = subprocess.run([compiler, model, "-target=host", "-q", "-tune", "-tune-budget=100", "-tuning-db=" + os.path.join(folder, "tuning.db"), "-o", os.path.join(folder, "tuned.so")], check=False, capture_output=True, text=True)
    if tuned.returncode:
        FAILED.append("tuning: " + tuned.stderr.strip()[-200:])
    line("100 candidates of one product, built and timed", "seconds", ("<=", 20), time.perf_counter() - start)


def unfused(folder, threads, arguments):
    """dlc -fuse=off beside onnxruntime without graph optimisations."""
    rows = [case for name in ("cnn", "bert") for _, case in compare.read_rows([name], 0)]
    found = measured(rows, arguments, threads, "dlc {model} -target=x86 -fuse=off -o {out}", ["ort-off", "dlc"], folder)
    values = ratios(found, ["ort-off"])
    line(f"-fuse=off, cnn and bert, {threads} threads", "onnxruntime, graph optimisations disabled", (">=", 0.9), mean(values.values()),
         ", ".join(f"{case} {value:.2f}" for case, value in values.items()))


def main():
    parts = ["products", "gemv", "epilogue", "overhead", "classes", "memory", "compile", "unfused"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=parts, metavar="part", help=", ".join(parts))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="of timed runs for each product")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds of timed runs for each row of a class and system")
    parser.add_argument("--peers", nargs="*", default=["ort", "ov"])
    parser.add_argument("--cases", default=os.path.join(compare.ROOT, "cases"), help="folder of the cases")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a thread count: this process measures with it
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        sys.exit(f"table: no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    if not arguments.one:
        print("| what | against | goal | reached | |\n|---|---|---|---|---|", flush=True)
        failed = 0
        for part in arguments.parts:
            # Each thread count in a process of its own: the pool's size is fixed when it starts.
            for threads in arguments.threads if part not in ("compile", "memory") else arguments.threads[:1]:
                command = [sys.executable, __file__, part, "--one", str(threads), "--seconds", str(arguments.seconds), "--budget", str(arguments.budget)]
                failed |= subprocess.run(command + ["--cases", arguments.cases, "--peers", *arguments.peers], check=False).returncode
        sys.exit(failed)
    threads, part = int(arguments.one), arguments.parts[0]
    os.environ["DLC_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        if part in ("products", "gemv", "epilogue"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
            {"products": products, "gemv": gemv, "epilogue": epilogue}[part](folder, threads, arguments.seconds)
        elif part == "overhead":
            overhead(folder, arguments.seconds)
        elif part == "compile":
            compile_time(folder, arguments)
        else:
            {"classes": classes, "memory": memory, "unfused": unfused}[part](folder, threads, arguments)
    for failure in FAILED:
        print(f"table: {failure}", file=sys.stderr)
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
