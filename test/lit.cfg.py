# The lit suite: every .mlir, .test and .onnxtxt file under test/ with RUN lines.
# It mirrors lib/. Run one folder or file with `utils/lit.sh test/Dialect/Graph`.
import os
import shutil

import lit.formats

config.name = "dlc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test", ".onnxtxt"]
config.excludes = ["Inputs", "unit", "python"]
config.test_source_root = os.path.join(config.dlc_source_dir, "test")
config.test_exec_root = os.path.join(config.dlc_build_dir, "test")

tools = os.path.join(config.dlc_build_dir, "bin")
scripts = os.path.dirname(config.python)
config.environment["PATH"] = os.pathsep.join([tools, config.llvm_bin_dir, scripts, os.environ["PATH"]])
config.environment["PYTHONPATH"] = os.path.join(config.dlc_build_dir, "python")
# Tests say how many threads they want; by default a test is one thread, so that
# lit can run several tests at a time.
config.environment["DLC_NUM_THREADS"] = os.environ.get("DLC_NUM_THREADS", "1")
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "LLVM_PROFILE_FILE", "HOME"):
    if name in os.environ:
        config.environment[name] = os.environ[name]

# Python itself is not instrumented: it loads the sanitizers' run-time first.
preload = f"env LD_PRELOAD={config.asan_runtime} " if config.sanitized else ""

config.substitutions += [
    ("%python", preload + config.python),
    ("%source", config.dlc_source_dir),
    ("%build", config.dlc_build_dir),
    # C and C++ of the build, and C against the runtime's public header.
    ("%cc", config.c_compiler),
    ("%cxx", config.cxx_compiler),
    # %onnx-from-text in.onnxtxt out.onnx: onnx's own text format to a model.
    ("%onnx-from-text", config.python + " " + os.path.join(config.dlc_source_dir, "utils", "onnx-from-text.py")),
    # %fusion-check file...: the checker extracted from docs/proofs, built by the first test that needs it.
    ("%fusion-check", f"env DLC_PROOFS_BUILD={config.dlc_build_dir}/proofs {config.dlc_source_dir}/utils/fusion-check.sh"),
]


def have(tool):
    return shutil.which(tool, path=config.environment["PATH"]) is not None


features = config.available_features
if have("qemu-aarch64") and os.path.isdir("/usr/aarch64-linux-gnu/lib"):
    features.add("qemu-aarch64")
if have("ptxas"):
    features.add("ptxas")
if have("coqc") and have("ocamlopt") and have("make"):
    features.add("coq")
if config.sanitized:
    features.add("sanitizer")
try:
    with open("/proc/cpuinfo") as info:
        flags = set(next((line for line in info if line.startswith("flags")), "").split())
except OSError:
    flags = set()
for feature, flag in (("avx2", "avx2"), ("avx512", "avx512f"), ("avx512bf16", "avx512_bf16"), ("avx512vnni", "avx512_vnni")):
    if flag in flags:
        features.add(feature)
