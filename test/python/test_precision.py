"""-precision: factors of bf16, all of them or as many as measured errors allow; what is refused, and that the bound is kept."""
import json
import pathlib
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

LAYERS, ROWS, WIDTH = 5, 64, 192


def run(*args):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A chain of products of which the one in the middle is a thousand times more sensitive than the others: what it gives is
    the difference of two large numbers."""
    folder = tmp_path_factory.mktemp("precision")
    rng = np.random.default_rng(3)
    nodes, weights, last = [], [], "x"
    for i in range(LAYERS):
        w = (rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        out = f"y{i}"
        if i == 2:
            shift = np.full((1, WIDTH), 100.0, np.float32)
            weights += [numpy_helper.from_array(shift, "shift"),
                        numpy_helper.from_array((shift.astype(np.float64) @ w).astype(np.float32), "back")]
            nodes += [helper.make_node("Add", [last, "shift"], ["far"]), helper.make_node("MatMul", ["far", f"w{i}"], ["p"], name="sensitive"),
                      helper.make_node("Sub", ["p", "back"], [out])]
        else:
            nodes += [helper.make_node("MatMul", [last, f"w{i}"], [f"p{i}"], name=f"layer{i}"),
                      helper.make_node("Tanh", [f"p{i}"], [out])]
        last = out
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, WIDTH])],
                              [helper.make_tensor_value_info(last, TensorProto.FLOAT, [ROWS, WIDTH])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "m.onnx")
    return folder


def compile_model(model, out, *flags):
    done = run("dlc", model / "m.onnx", "-target=host:threads=1", "-emit=shared,report", "-o", out / "m.so", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "m.json").read_text()), done.stderr


def error_on(model, out, seed):
    """max|a-b|/max|b| of the artifact beside one of float32, on inputs that the choice never saw."""
    x = np.random.default_rng(seed).uniform(-1, 1, (ROWS, WIDTH)).astype(np.float32)
    np.save(out / "x.npy", x)
    plain = out / "plain.so"
    if not plain.exists():
        assert run("dlc", model / "m.onnx", "-target=host:threads=1", "-q", "-o", plain).returncode == 0
    results = []
    for artifact in (out / "m.so", plain):
        assert run("dlc-run", artifact, f"-inputs={out / 'x.npy'}", f"-outputs={out}").returncode == 0
        results.append(np.load(out / "output_0.npy").astype(np.float64))
    return np.abs(results[0] - results[1]).max() / np.abs(results[1]).max()


def test_all_in_bf16(model, tmp_path):
    report, _ = compile_model(model, tmp_path, "-precision=bf16")
    assert report["precision"]["rounded"] == report["precision"]["products"] == LAYERS
    assert "round(bf16)" in report["laws"]
    # Rounding is there: float32 is far nearer.
    assert error_on(model, tmp_path, 7) > 1e-4


def test_auto_leaves_out_what_is_sensitive(model, tmp_path):
    """Measured alone, the product in the middle does most; the bound holds on other inputs; a larger one lets more be rounded."""
    done = run("dlc", model / "m.onnx", "-target=host:threads=1", "-emit=shared,report", "-o", tmp_path / "m.so", "-v",
               "-precision=auto:max-error=2e-2")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "m.json").read_text())
    precision = report["precision"]
    errors = {item["name"]: item["error"] for item in precision["list"]}
    assert len(errors) == LAYERS and max(errors, key=errors.get) == "sensitive"
    assert errors["sensitive"] > 4 * sorted(errors.values())[-2]
    rounded = {item["name"] for item in precision["list"] if item["precision"] == "bf16"}
    assert "sensitive" not in rounded
    assert precision["error"] <= 2e-2
    assert len(rounded) == precision["rounded"]
    # On this machine bf16 may be no faster; then nothing is rounded, in words.
    if rounded:
        assert 0 < precision["seconds"] < precision["f32_seconds"]
        assert error_on(model, tmp_path, 11) <= 2e-2
        assert error_on(model, tmp_path, 12) <= 2e-2
    else:
        assert "bf16 is not faster here" in precision["note"]
    assert "together:" in done.stderr


def planted(model, tmp_path, times, slow=False):
    """What -precision=auto says and reports under a dlc-exec whose times in turns are `times` (plain, rounded, plain again), a row a round.
    With `slow` the first choice's kernel of layer1 has twenty times its samples."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    real = pathlib.Path(shutil.which("dlc")).resolve().parent
    shutil.copy(real / "dlc", bin_folder / "dlc")
    (tmp_path / "lib").symlink_to(real.parent / "lib")
    rows = "\n".join(" ".join(str(int(t * 1e6)) for t in row) for row in times)
    (bin_folder / "dlc-exec").write_text(f"""#!/bin/sh
case " $* " in
*-beside=*) printf '%s\\n' '{rows}' ;;
*-profile*) echo >> {tmp_path}/profiles
  if [ {int(slow)} = 1 ] && [ $(wc -l < {tmp_path}/profiles) = 2 ]; then
    {real / 'dlc-exec'} "$@" | awk '/fused_1$/ {{$1 *= 20}} {{print}}'
  else
    {real / 'dlc-exec'} "$@"
  fi ;;
*-bench=*) echo 200000 200000 ;;
*) exec {real / 'dlc-exec'} "$@" ;;
esac
""")
    (bin_folder / "dlc-exec").chmod(0o755)
    done = run(bin_folder / "dlc", model / "m.onnx", "-target=host:threads=1", "-emit=shared,report", "-o", tmp_path / "m.so", "-v",
               "-precision=auto:max-error=2e-2")
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / "m.json").read_text())["precision"], done.stderr


@pytest.mark.parametrize("name,rounded", [("faster", True), ("one fast run", False), ("within noise", False)])
def test_whole_artifacts_in_turns_decide(model, tmp_path, name, rounded):
    """A time that misleads - one turn of a tenth - is not taken for a gain, nor a gain that is no more than two copies of float32 differ by."""
    times = [[10, 9, 10.05] if i % 2 else [10.1, 9.1, 10] for i in range(21)]
    if name == "one fast run":
        times = [[10, 10.4, 10.05] for _ in range(20)] + [[10, 1, 10]]
    elif name == "within noise":
        times = [[10, 9.3, 8.9] if i % 2 else [8.9, 9.2, 10] for i in range(21)]
    precision, _ = planted(model, tmp_path, times)
    assert (precision["rounded"] > 0) == rounded, precision["note"]
    if not rounded:
        assert "not faster here beyond noise" in precision["note"]


def test_products_that_rounding_makes_slow_are_left_out(model, tmp_path):
    """Samples propose: a second choice is compiled without the slow one, and by the same times in turns the first one stays."""
    precision, said = planted(model, tmp_path, [[10, 9, 10.05] if i % 2 else [10.1, 9.1, 10] for i in range(21)], slow=True)
    slow = [line.split()[0] for line in said.splitlines() if " a call, float32 " in line]
    compiled = [int(line.split()[0]) for line in said.splitlines() if " compiled: " in line]
    assert slow == ["layer1"] and len(compiled) >= 2 and compiled[1] <= compiled[0] - len(slow)
    assert precision["rounded"] == compiled[0]


def test_auto_gives_up_where_no_rounding_fits(model, tmp_path):
    report, said = compile_model(model, tmp_path, "-precision=auto:max-error=1e-9")
    assert report["precision"]["rounded"] == 0 and "no rounding keeps the bound" in said
    assert "round(bf16)" not in report["laws"]
    plain = tmp_path / "p"
    plain.mkdir()
    compile_model(model, plain)
    # The same code as without the option.
    assert error_on(model, tmp_path, 5) == 0


def test_inputs_of_the_user(model, tmp_path):
    np.save(tmp_path / "in.npy", np.zeros((ROWS, WIDTH), np.float32))
    report, _ = compile_model(model, tmp_path, "-precision=auto:max-error=1e-2", f"-precision-inputs={tmp_path / 'in.npy'}")
    assert all("error" in item for item in report["precision"]["list"])
    done = run("dlc", model / "m.onnx", "-o", tmp_path / "n.so", "-precision=auto:max-error=1e-2", "-precision-inputs=a.npy,b.npy")
    assert done.returncode == 2 and "the model has 1 inputs, 2 are given" in done.stderr


def test_refusals(model, tmp_path):
    def said(*flags):
        done = run("dlc", model / "m.onnx", "-o", tmp_path / "m.so", *flags)
        assert done.returncode == 2, done.stderr
        return done.stderr
    assert "expected f32, tf32, bf16 or auto:max-error=<e>" in said("-precision=half")
    assert "expected auto:max-error=<e>" in said("-precision=auto")
    assert "expected auto:max-error=<e>" in said("-precision=auto:max-error=-1")
    assert "products of int8 are not made of float32 models so far" in said("-precision=int8")
    assert "-fp=strict rounds nothing" in said("-precision=bf16", "-fp=strict")
    assert "-precision-inputs= is for -precision=auto" in said("-precision-inputs=x.npy")
    assert "-precision is for CPU and CUDA targets" in said("-precision=bf16", "-target=interp")
    assert "-precision=auto measures on this machine's CPU" in said("-precision=auto:max-error=1e-3", "-target=cuda:sm=90a")
    assert "-precision=tf32 is for CUDA targets" in said("-precision=tf32")
    assert "-fp=strict rounds nothing" in said("-precision=tf32", "-fp=strict", "-target=cuda")
    assert "not with -precision" in said("-precision=bf16", "-verify=bisect")


def test_verify_knows_the_bound(model, tmp_path):
    """Beside the interpreter, which rounds nothing: the sensitive product is beyond what bf16 may round, a choice that keeps its
    bound is not."""
    def verify(*flags):
        return run("dlc", model / "m.onnx", "-target=host:threads=1", "-o", tmp_path / "m.so", "-verify", *flags)
    done = verify("-precision=bf16")
    assert done.returncode == 4 and "the tolerance 4" in done.stderr
    done = verify("-precision=auto:max-error=2e-2")
    assert done.returncode == 0, done.stderr
