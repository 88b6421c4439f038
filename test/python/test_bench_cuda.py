"""utils/bench-cuda on the emulated driver: what it measures is right, and what is wrong it says."""
import json
import os
import subprocess
import sys

import onnx
import onnx.parser
from cuda_runtime import BUILD, DRIVER, ROOT

BENCH = os.path.join(ROOT, "utils", "bench", "cuda.py")


def bench(tmp_path, *arguments, **environment):
    """(exit code, standard output, standard error, figures) of a run at small sizes."""
    path = tmp_path / "figures.json"
    env = {**os.environ, "PATH": os.path.join(BUILD, "bin") + os.pathsep + os.environ["PATH"], **environment}
    done = subprocess.run([sys.executable, BENCH, "--small", "--seconds", "0", "--driver", DRIVER, "--json", str(path), *arguments],
                          capture_output=True, text=True, env=env, timeout=600)
    return done.returncode, done.stdout, done.stderr, json.loads(path.read_text()) if path.exists() else []


def test_figures(tmp_path):
    code, text, errors, figures = bench(tmp_path, "transpose_float", "gemm_bfloat16", "decode_gqa_d128_float16")
    assert code == 0, text + errors
    assert [f["case"] for f in figures] == ["transpose_float", "gemm_bfloat16", "decode_gqa_d128_float16"]
    assert all(f["right"] and 0 < f["seconds"] and 0 < f["bytes_per_second"] for f in figures)
    assert figures[0]["error"] == 0 and figures[0]["flops_per_second"] == 0 < figures[1]["flops_per_second"]


def test_peers(tmp_path):
    """Ratios to what torch has, here a module in its place; a peer that fails is told, and left out."""
    code, text, errors, figures = bench(tmp_path, "gemm_bfloat16", "gemm_tf32", "decode_gqa_d128_float16", "map_float", "softmax_float", "--peers", "fake_torch",
                                        PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
    assert code == 0 and "torch fake" in text, text + errors
    assert [list(f["peers"]) for f in figures] == [["cuBLAS"], ["cuBLAS"], ["SDPA"], ["torch.compile"], []]
    for figure in figures[:4]:
        (name, seconds), = figure["peers"].items()
        assert 0.02 <= seconds < 2 and abs(figure["ratios"][name] - seconds / figure["seconds"]) < 1e-9
        assert f"  {name} / dlc = {figure['ratios'][name]:.2f}" in text
    assert "softmax_float: torch: no softmax today" in errors


def test_wrong_results_are_told(tmp_path):
    # The copy of the input, behind that of the bandwidth, does nothing.
    code, text, _, figures = bench(tmp_path, "transpose_float", DLC_EMULATED_CUDA="skip=cuMemcpyHtoDAsync_v2:2")
    assert code == 1 and "WRONG" in text and not figures[0]["right"]


def test_what_is_not_there(tmp_path):
    code, _, errors, _ = bench(tmp_path, "--driver", str(tmp_path / "none"))
    assert code == 5 and "no CUDA device" in errors
    code, _, errors, _ = bench(tmp_path, "no_such_case")
    assert code == 2 and "unknown case no_such_case" in errors


def test_a_bundle_runs_by_itself(tmp_path):
    """No compiler there: PATH has no dlc, and what is not in the bundle is not known."""
    folder = tmp_path / "bundle"
    code, text, errors, _ = bench(tmp_path, "gemm_int8", "gemm_tf32", "--bundle", str(folder))
    assert code == 0 and "2 cases for cuda:sm=80:emulate=on" in text, text + errors
    env = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": ""}
    figures = tmp_path / "far.json"
    done = subprocess.run([str(folder / "run"), "--driver", DRIVER, "--seconds", "0", "--json", str(figures)], capture_output=True, text=True,
                          env=env, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(f["case"] for f in json.loads(figures.read_text()) if f["right"]) == ["gemm_int8", "gemm_tf32"]
    done = subprocess.run([str(folder / "run"), "--driver", DRIVER, "map_float"], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 2 and "unknown case map_float" in done.stderr
    done = subprocess.run([str(folder / "run"), "--driver", str(tmp_path / "none")], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 5


def test_a_bundle_with_candidates(tmp_path):
    folder = tmp_path / "bundle"
    # In the transpose's place a sort, whose launches have no knobs.
    opaque = tmp_path / "opaque.onnx"
    onnx.save(onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
        g (float[70] x) => (float[3] y, int64[3] i) { k = Constant <value = int64[1] {3}> () y, i = TopK (x, k) }"""), opaque)
    tools = tmp_path / "tools"
    tools.mkdir()
    tune = tools / "dlc-tune"
    tune.write_text(f"""#!/bin/sh
command=$1 target=$2 model=$3
shift 3
case $model in *transpose_float*) model={opaque} ;; esac
exec {BUILD}/bin/dlc-tune "$command" "$target" "$model" "$@"
""")
    tune.chmod(0o755)
    path = os.pathsep.join([str(tools), os.path.join(BUILD, "bin"), os.environ["PATH"]])
    code, text, errors, _ = bench(tmp_path, "gemm_float", "transpose_float", "--bundle", str(folder), "--candidates", "3", PATH=path)
    assert code == 0 and "transpose_float: no candidates: " in errors and "it is an opaque operator" in errors, text + errors
    env = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": "", "DLC_EMULATED_CUDA": "sm=80"}
    figures = tmp_path / "far.json"
    done = subprocess.run([str(folder / "run"), "--driver", DRIVER, "--seconds", "0", "--json", str(figures)], capture_output=True, text=True,
                          env=env, cwd=tmp_path, timeout=600)
    assert done.returncode == 0 and "tuned" in done.stdout, done.stdout + done.stderr
    by_case = {figure["case"]: figure for figure in json.loads(figures.read_text())}
    assert 0 < by_case["gemm_float"]["tuned"] <= 1 and "tuned" not in by_case["transpose_float"]
    lines = (folder / "candidates" / "gemm_float" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["trial"]["status"] for line in lines[:3]] == ["ok"] * 3
