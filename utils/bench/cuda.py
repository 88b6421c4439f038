#!/usr/bin/env python3
"""dlc's CUDA kernels beside their peers on one GPU: utils/bench-cuda [case ...]

    --list              the cases
    --jobs N            references computed side by side, before anything is timed; needs the memory of all cases at once (1: case by case)
    --small             sizes that the emulated driver runs; times then say nothing
    --driver PATH       the CUDA driver (libcuda.so.1); build/lib/libdlc_emulated_cuda.so needs no GPU
    --no-peers          without torch
    --peers MODULE      another module than torch that has the peers
    --seconds S         to measure each system for (0.5)
    --json FILE         the figures, as a list of objects
    --bundle FOLDER     measures nothing: makes a folder with the cases compiled for every architecture, the runtime and this program,
                        for a machine with a GPU and no compiler or network; there: FOLDER/run [options of this program]
    --candidates N      with --bundle: also N schedules of each case's kernels for --device, made by `dlc-tune bundle`; FOLDER/run verifies and
                        measures them (dlc-cuda-measure) and prints the best one's ratios too; `dlc-tune import FOLDER` takes the records
    --device NAME       a description: h100 (default), h200, a100, l4, rtx4090, ...

Each case is a small ONNX model with random inputs, compiled for the device's architecture. Its results are compared with numpy's,
and a case that is wrong makes the exit code 1: max|a-b| / max|b| must be at most the case's limit,
and the judge must reject the same results with one element changed. Times are of runs one after the other on one stream, tensors on
the device, waited for once a batch of runs: the median of the batches.

Columns: time; GB/s of the least traffic there can be (each input read once, each output written once) and its part of a measured
copy's bandwidth; TFLOP/s where there is something to multiply; each peer's time over dlc's (above 1: dlc is faster)."""
import argparse
import concurrent.futures
import functools
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
BUNDLE = os.path.join(HERE, "bundle.json")  # beside this file: it is in a bundle
if os.path.exists(BUNDLE):
    os.environ["DLC_BUILD"] = HERE
sys.path.insert(0, HERE if os.path.exists(BUNDLE) else os.path.join(ROOT, "test", "python"))
from cuda_runtime import DRIVER, DeviceArray, Driver, Instance  # noqa: E402

TYPES = {"float": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "int8": np.int8}
# Of max|a-b| / max|b|: sums of f32, of 16-bit results beside exact ones, of integers.
LIMITS = {"float": 1e-4, "float16": 4e-3, "bfloat16": 3e-2, "int8": 0}
ARCHITECTURES = ("80", "86", "89", "90a")
MOST_BUNDLE_BYTES = 48 << 20


class Case:
    """A model as ONNX text with sizes in braces, what numpy makes of its inputs, and its peers in torch."""

    def __init__(self, name, text, sizes, small, shapes, reference, flops=None, peers=None, dtype="float", opset=23,
                 options=(), limit=None):
        self.options, self.limit = options, LIMITS[dtype] if limit is None else limit
        self.result = np.int32 if dtype == "int8" else TYPES[dtype]
        self.name, self.text, self.dtype, self.reference, self.peers, self.opset = name, text, dtype, reference, peers or {}, opset
        self.all_sizes, self.all_shapes, self.all_flops = (sizes, small), shapes, flops

    def choose(self, small):
        self.sizes = self.all_sizes[small]
        self.shapes = self.all_shapes(**self.sizes)
        self.flops = self.all_flops(**self.sizes) if self.all_flops else 0
        return self

    def model(self):
        import onnx.parser

        text = self.text
        for key, value in {**self.sizes, "T": self.dtype}.items():
            text = text.replace("{" + key + "}", str(value))
        model = onnx.parser.parse_model(f'<ir_version: 11, opset_import: ["" : {self.opset}]>\n{text}')
        onnx.checker.check_model(model)
        return model

    def output_shape(self):
        return [d.dim_value for d in self.model().graph.output[0].type.tensor_type.shape.dim]

    def compile(self, path, target, *more):
        import onnx

        onnx.save(self.model(), path + ".onnx")
        subprocess.run(["dlc", path + ".onnx", "-target=" + target, "-o", path + ".so", "-q", *self.options, *more], check=True)
        return path + ".so"

    def inputs(self):
        random = np.random.default_rng(0)
        if self.dtype == "int8":
            return [random.integers(-128, 128, shape, np.int8) for shape in self.shapes]
        return [random.standard_normal(shape, np.float32).astype(TYPES[self.dtype]) for shape in self.shapes]


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(q, k, v, causal):
    q, k, v = (x.astype(np.float32) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5)
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    return softmax(s) @ v


def gelu(x):
    return x / (1 + np.exp(-1.702 * x))


@functools.cache  # compiled once, not in every run
def compiled_gelu(torch):
    return torch.compile(lambda v: (v.float() * torch.sigmoid(1.702 * v.float())).to(v.dtype))


def attention_case(name, b, h, g, q, k, d, causal, dtype):
    small = dict(B=1, H=2 * h // g, G=2, Q=min(q, 40), K=min(k, 40) if causal or q > 1 else 300, D=d)
    text = """attention ({T}[{B}, {H}, {Q}, {D}] q, {T}[{B}, {G}, {K}, {D}] k, {T}[{B}, {G}, {K}, {D}] v) => ({T}[{B}, {H}, {Q}, {D}] y) {
        y = Attention <is_causal = CAUSAL> (q, k, v)
    }""".replace("CAUSAL", str(int(causal)))

    def sdpa(torch, q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=h != g)

    return Case(name, text, dict(B=b, H=h, G=g, Q=q, K=k, D=d), small,
                lambda B, H, G, Q, K, D: [(B, H, Q, D), (B, G, K, D), (B, G, K, D)], lambda q, k, v: attend(q, k, v, causal),
                lambda B, H, G, Q, K, D: 4 * B * H * Q * K * D // (2 if causal else 1), {"SDPA": sdpa}, dtype)


def cases():
    """All cases, by name."""
    found = []

    def add(*arguments, **more):
        found.append(Case(*arguments, **more))

    def sizes(m, n, **more):
        return dict(M=m, N=n, **more)

    two = lambda M, N: [(M, N)]  # noqa: E731
    for dtype, rows in (("float", 32768), ("float16", 65536)):
        add(f"map_{dtype}", "g ({T}[{M}, {N}] x) => ({T}[{M}, {N}] y) { c = Constant <value = {T} {1.702}> () t = Mul(x, c) s = Sigmoid(t) y = Mul(x, s) }"
            if dtype == "float" else
            "g ({T}[{M}, {N}] x) => ({T}[{M}, {N}] y) { f = Cast <to = 1> (x) c = Constant <value = float {1.702}> () t = Mul(f, c) s = Sigmoid(t) p = Mul(f, s) y = Cast <to = 10> (p) }",
            sizes(rows, 4096), sizes(70, 96), two, lambda x: gelu(x.astype(np.float32)), dtype=dtype,
            peers={"torch.compile": lambda torch, x: compiled_gelu(torch)(x)})
        add(f"softmax_{dtype}", "g ({T}[{M}, {N}] x) => ({T}[{M}, {N}] y) { y = Softmax <axis = -1> (x) }", sizes(rows, 4096), sizes(7, 300), two,
            lambda x: softmax(x.astype(np.float32)), dtype=dtype, peers={"torch": lambda torch, x: torch.softmax(x, -1)})
    add("transpose_float", "g ({T}[{M}, {N}] x) => ({T}[{N}, {M}] y) { y = Transpose <perm = [1, 0]> (x) }", sizes(16384, 8192), sizes(70, 96), two,
        lambda x: x.T, peers={"torch": lambda torch, x: x.T.contiguous()})
    add("layernorm_float", "g ({T}[{M}, {N}] x, {T}[{N}] s, {T}[{N}] b) => ({T}[{M}, {N}] y) { y = LayerNormalization <axis = -1> (x, s, b) }",
        sizes(32768, 4096), sizes(7, 300), lambda M, N: [(M, N), (N,), (N,)],
        lambda x, s, b: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * s + b,
        peers={"torch": lambda torch, x, s, b: torch.nn.functional.layer_norm(x, x.shape[-1:], s, b)})
    def product(torch, a, b):
        return a @ b

    def tf32_product(torch, a, b):
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return a @ b
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    for dtype, options in (("float", ()), ("float", ("-precision=tf32",)), ("float16", ()), ("bfloat16", ())):
        add("gemm_tf32" if options else f"gemm_{dtype}", "g ({T}[{M}, {K}] a, {T}[{K}, {N}] b) => ({T}[{M}, {N}] y) { y = MatMul(a, b) }", sizes(4096, 4096, K=4096),
            sizes(70, 90, K=40), lambda M, N, K: [(M, K), (K, N)], lambda a, b: a.astype(np.float32) @ b.astype(np.float32),
            flops=lambda M, N, K: 2 * M * N * K, dtype=dtype, options=options, limit=2e-3 if options else None,
            peers={"cuBLAS": tf32_product if options else product})
    add("gemm_int8", "g (int8[{M}, {K}] a, int8[{K}, {N}] b) => (int32[{M}, {N}] y) { y = MatMulInteger(a, b) }", sizes(4096, 4096, K=4096),
        sizes(70, 90, K=40), lambda M, N, K: [(M, K), (K, N)],
        # Exact in f64; f32 is where every sum is below 2^24.
        lambda a, b: a.astype(np.float32 if a.shape[1] <= 1024 else np.float64) @ b.astype(np.float32 if a.shape[1] <= 1024 else np.float64),
        flops=lambda M, N, K: 2 * M * N * K, dtype="int8", peers={"cuBLAS": lambda torch, a, b: torch._int_mm(a, b)})
    add("conv_float16", "g ({T}[{M}, 64, {N}, {N}] x, {T}[64, 64, 3, 3] w) => ({T}[{M}, 64, {N}, {N}] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }",
        sizes(32, 56), sizes(1, 10), lambda M, N: [(M, 64, N, N), (64, 64, 3, 3)], convolve, flops=lambda M, N: 2 * M * N * N * 64 * 64 * 9,
        dtype="float16", peers={"cuDNN": lambda torch, x, w: torch.nn.functional.conv2d(x, w, padding=1)})
    for dtype in ("float16", "bfloat16", "float"):
        found.append(attention_case(f"prefill_d64_{dtype}", 4, 16, 16, 2048, 2048, 64, False, dtype))
        found.append(attention_case(f"prefill_causal_d128_{dtype}", 2, 16, 16, 4096, 4096, 128, True, dtype))
        found.append(attention_case(f"decode_gqa_d128_{dtype}", 4, 32, 8, 1, 8192, 128, False, dtype))
    return {case.name: case for case in found}


def convolve(x, w):
    """3 x 3 with a border of 1."""
    padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)))
    h, v = x.shape[2:]
    return sum(np.einsum("oc,bchv->bohv", w[:, :, i, j].astype(np.float32), padded[:, :, i:i + h, j:j + v], optimize=True)
               for i in range(3) for j in range(3))


def largest_error(got, expected):
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)
    return float(error) if np.isfinite(error) else float("inf")


def is_right(got, expected, limit):
    """(whether got is within the limit, the error); the judge must tell a changed element."""
    spoilt = expected.astype(np.float64)
    spoilt.flat[spoilt.size // 2] += 4 * max(limit, 1e-6) * max(np.abs(spoilt).max(), 1e-30)
    if largest_error(spoilt, expected) <= limit:
        sys.exit("the judge takes a planted fault for right")
    error = largest_error(got, expected)
    return error <= limit, error


def measure(run, wait, seconds):
    """Median seconds of a run: batches of about 20 ms, each waited for."""
    run()
    wait()
    start = time.perf_counter()
    run()
    wait()
    count = max(1, min(1000, int(0.02 / max(time.perf_counter() - start, 1e-6))))
    batches, end = [], time.perf_counter() + seconds
    while len(batches) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        batches.append((time.perf_counter() - start) / count)
    return statistics.median(batches)


def open_driver(path):
    """The driver, for this process and the artifacts it opens; exit code 5 where there is none."""
    os.environ["DLC_CUDA_DRIVER"] = path
    try:
        return Driver(path)
    except (OSError, AssertionError) as error:
        print(f"no CUDA device: {error}", file=sys.stderr)
        sys.exit(5)


def device_target(driver):
    """What -target= takes for device 0."""
    import ctypes

    def attribute(number):
        value = ctypes.c_int()
        driver.call("cuDeviceGetAttribute", ctypes.byref(value), number, 0)
        return value.value

    arch = 10 * attribute(75) + attribute(76)  # COMPUTE_CAPABILITY_MAJOR, _MINOR
    if arch < 80:
        sys.exit(f"the device is sm_{arch}; dlc makes code for sm_80 and newer")
    # Code for 90a runs on nothing else; what is newer takes the PTX of 80.
    return "cuda:sm=" + ("90a" if arch == 90 else str(arch) if arch in (80, 86, 89) else "80")


def copy_bandwidth(driver, stream, nbytes, seconds):
    """Bytes read and written a second by the driver's own copy."""
    import ctypes
    source, target = driver.allocate(nbytes), driver.allocate(nbytes)
    zeros = np.zeros(min(nbytes, 1 << 24), np.uint8)
    for at in range(0, nbytes, zeros.nbytes):
        driver.write(source + at, zeros[:nbytes - at])
    spent = measure(lambda: driver.call("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(target), ctypes.c_uint64(source), ctypes.c_size_t(nbytes), stream),
                    lambda: driver.synchronize(stream), seconds)
    driver.free(source)
    driver.free(target)
    return 2 * nbytes / spent


def bundled(name, target):
    """Where a bundle has the artifact of a case."""
    return os.path.join(HERE, "kernels", f"{name}.{target.replace(':', '_')}.so")


def write_candidates(case, model, folder, target, count):
    """Schedules of the case's kernels, ready to be measured; where there are none, says why."""
    precision = [option for option in case.options if option.startswith("-precision=")]
    done = subprocess.run(["dlc-tune", "bundle", "-target=" + target, model, f"-candidates={count}", "-o", folder, *precision],
                          capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{case.name}: no candidates: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)


def measure_candidates(case, driver):
    """The time of the best schedules over the default's, of all kernels of the case together; None: the bundle has none of it."""
    folder = os.path.join(HERE, "candidates", case.name)
    if not os.path.exists(folder):
        return None
    done = subprocess.run([os.path.join(folder, "dlc-cuda-measure"), folder, "-driver=" + driver], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        print(f"{case.name}: {done.stderr.strip()}", file=sys.stderr)
        return None
    sys.stderr.write(done.stderr)  # wrong, crashing and hanging candidates, which are never the best
    kernels = {}
    with open(os.path.join(folder, "results.jsonl")) as file:
        for line in file:
            record = json.loads(line)
            trial = record["trial"]
            kernel = kernels.setdefault(record["workload"]["kernel"], {"default": 0.0, "best": 1.0})
            if trial["status"] != "ok":
                continue
            if trial["default"]:
                kernel["default"] = min(trial["reference_ns"])
            elif trial["attempt"]:  # measured again
                ratio = max(min(trial["samples_ns"]) / min(trial["reference_ns"]),
                            statistics.median(trial["samples_ns"]) / statistics.median(trial["reference_ns"]))
                kernel["best"] = min(kernel["best"], ratio)
    before = sum(k["default"] for k in kernels.values())
    return sum(k["default"] * k["best"] for k in kernels.values()) / before if before else None


def write_bundle(folder, chosen, small, targets, candidates=0, device=""):
    """Compiles the cases for all targets into a folder that runs by itself."""
    os.makedirs(os.path.join(folder, "kernels"), exist_ok=True)
    os.makedirs(os.path.join(folder, "lib"), exist_ok=True)
    shapes = {}
    with tempfile.TemporaryDirectory() as work:
        for case in chosen:
            shapes[case.name] = case.choose(small).output_shape()
            for target in targets:
                # PTX, for devices to come, once.
                fallback = "-fallback=" + ("on" if target == targets[0] else "off")
                made = case.compile(os.path.join(work, case.name), target, fallback)
                shutil.copy(made, os.path.join(folder, "kernels", os.path.basename(bundled(case.name, target))))
            if candidates:
                write_candidates(case, os.path.join(work, case.name) + ".onnx", os.path.join(folder, "candidates", case.name), device, candidates)
    build = os.environ.get("DLC_BUILD", os.path.join(ROOT, "build"))
    for source, place in ((os.path.abspath(__file__), "cuda.py"), (os.path.join(ROOT, "test", "python", "cuda_runtime.py"), "cuda_runtime.py"),
                          (os.path.join(build, "lib", "libdlc_runtime.so"), os.path.join("lib", "libdlc_runtime.so"))):
        shutil.copy(source, os.path.join(folder, place))
    with open(os.path.join(folder, "bundle.json"), "w") as file:
        json.dump({"small": small, "shapes": shapes, "targets": targets}, file, indent=1)
    run = os.path.join(folder, "run")
    with open(run, "w") as file:
        file.write('#!/bin/sh\n# Needs Python with numpy and ml_dtypes, and the CUDA driver; torch with CUDA for the peers.\n'
                   'exec "${PYTHON:-python3}" "$(dirname "$0")/cuda.py" "$@"\n')
    os.chmod(run, 0o755)
    size = sum(os.path.getsize(os.path.join(base, name)) for base, _, names in os.walk(folder) for name in names)
    print(f"{folder}: {len(shapes)} cases for {', '.join(targets)}, {size / 2**20:.1f} MiB")
    if size > MOST_BUNDLE_BYTES:
        sys.exit(f"the bundle has more than {MOST_BUNDLE_BYTES >> 20} MiB: choose fewer cases")


def measure_dlc(case, feeds, target, driver, stream, seconds, work, bundle):
    """(seconds of a run, the output, bytes of inputs and outputs)."""
    if bundle:
        path, shape = bundled(case.name, target), bundle["shapes"][case.name]
    else:
        path, shape = case.compile(os.path.join(work, case.name), target), case.output_shape()
    model = Instance(path)
    if model.status:
        sys.exit(f"{case.name}: {model.text()}")
    result = np.zeros(shape, case.result)
    inputs, output = [DeviceArray(driver, x) for x in feeds], DeviceArray(driver, result)
    bound = model.bind(inputs, [output], stream=stream)

    def run():
        status, text = bound()
        if status:
            sys.exit(f"{case.name}: {text}")

    spent = measure(run, lambda: driver.synchronize(stream), seconds)
    got = output.read()
    for array in [*inputs, output]:
        array.free()
    model.close()
    return spent, got, sum(x.nbytes for x in feeds) + result.nbytes


def measure_peers(case, feeds, torch, seconds):
    """{name: seconds}; a peer that fails is left out, with its reason on standard error."""
    kinds = {"float": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
    tensors = [torch.from_numpy(x if case.dtype == "int8" else x.astype(np.float32)).to("cuda", kinds[case.dtype]) for x in feeds]
    times = {}
    for name, peer in case.peers.items():
        try:
            with torch.no_grad():
                times[name] = measure(lambda: peer(torch, *tensors), torch.cuda.synchronize, seconds)
        except Exception as error:  # noqa: BLE001 - of any kind: the peer is not ours
            print(f"{case.name}: {name}: {error}", file=sys.stderr)
    return times


def make_reference(case):
    """(inputs, what numpy makes of them)"""
    feeds = case.inputs()
    return feeds, case.reference(*feeds)


def find_torch(name):
    try:
        torch = importlib.import_module(name)
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # f32 is f32
    return torch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peers", metavar="MODULE")
    parser.add_argument("--driver", default="libcuda.so.1")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--json")
    parser.add_argument("--bundle", metavar="FOLDER")
    parser.add_argument("--candidates", type=int, default=0)
    parser.add_argument("--device", default="h100")
    arguments = parser.parse_args()
    known, bundle = cases(), None
    if os.path.exists(BUNDLE):
        with open(BUNDLE) as file:
            bundle = json.load(file)
        known, arguments.small = {name: known[name] for name in bundle["shapes"]}, bundle["small"]
    if arguments.list:
        return print("\n".join(known))
    unknown = set(arguments.cases) - set(known)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; --list prints them")
    emulated = os.path.basename(arguments.driver) == os.path.basename(DRIVER)
    if arguments.bundle:
        targets = ["cuda:sm=80:emulate=on"] if emulated else ["cuda:sm=" + sm for sm in ARCHITECTURES]
        return write_bundle(arguments.bundle, [known[name] for name in arguments.cases or known], arguments.small, targets, arguments.candidates,
                            targets[0] if emulated else "cuda:device=" + arguments.device)
    driver = open_driver(arguments.driver)
    # Peers on a device are no measure of an emulated one.
    torch = None if arguments.no_peers or (emulated and not arguments.peers) else find_torch(arguments.peers or "torch")
    target = "cuda:sm=80:emulate=on" if emulated else device_target(driver)
    stream = driver.stream()
    bandwidth = copy_bandwidth(driver, stream, 1 << (16 if arguments.small else 30), arguments.seconds)
    peers = "torch " + torch.__version__ if torch else "no torch with CUDA"
    print(f"-target={target}, copy {bandwidth / 1e9:.0f} GB/s, {peers}" + ("; emulated: times say nothing" if emulated else ""), flush=True)
    figures, wrong = [], False
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        chosen = [known[name].choose(arguments.small) for name in arguments.cases or known]
        prepared = list(pool.map(make_reference, chosen)) if arguments.jobs > 1 else map(make_reference, chosen)
        for case, (feeds, expected) in zip(chosen, prepared):
            name = case.name
            spent, got, nbytes = measure_dlc(case, feeds, target, driver, stream, arguments.seconds, work, bundle)
            judged = pool.submit(is_right, got, expected, case.limit)
            times = measure_peers(case, feeds, torch, arguments.seconds) if torch else {}
            right, error = judged.result()
            wrong |= not right
            figure = {"case": name, "seconds": spent, "error": error, "right": right, "bytes_per_second": nbytes / spent,
                      "copy": nbytes / spent / bandwidth, "flops_per_second": case.flops / spent, "peers": times,
                      "ratios": {peer: theirs / spent for peer, theirs in times.items()}}
            tuned = measure_candidates(case, arguments.driver) if bundle else None
            if tuned:
                figure["tuned"] = tuned
                figure["tuned_ratios"] = {peer: ratio / tuned for peer, ratio in figure["ratios"].items()}
            figures.append(figure)
            text = f"{name:28} {spent * 1e3:9.3f} ms {nbytes / spent / 1e9:8.0f} GB/s = {figure['copy']:.2f} of copy"
            if case.flops:
                text += f" {case.flops / spent / 1e12:7.1f} TFLOP/s"
            text += "".join(f"  {peer} / dlc = {ratio:.2f}" for peer, ratio in figure["ratios"].items())
            if tuned:
                text += f"  tuned {1 / tuned:.2f}x"
                text += "".join(f"  {peer} / tuned = {ratio:.2f}" for peer, ratio in figure["tuned_ratios"].items())
            print(text + f"  error {error:.1e}" + ("" if right else " WRONG"), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(figures, file, indent=1)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
