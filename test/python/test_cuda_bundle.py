"""Bundles of candidates for a GPU (dlc-tune bundle -target=cuda, dlc-cuda-measure, dlc-tune import, -tune=lookup) on the emulated driver:
what is right is measured, what is wrong or crashes is a result and never chosen."""
import json
import os
import re
import shutil
import subprocess

import onnx
import onnx.parser
import pytest

from cuda_runtime import BUILD, DRIVER, tool

TARGET = "cuda:sm=80:emulate=on"
SIZES = "70x96x200"


def measure(folder, *arguments, code=0, settings="sm=80,check=1", **environment):
    # No compiler there: PATH has nothing of dlc.
    done = subprocess.run([os.path.join(folder, "dlc-cuda-measure"), folder, "-driver=" + DRIVER, "-samples=2", "-timeout=500", *arguments], capture_output=True,
                          text=True, timeout=3000, env={"PATH": "/usr/bin:/bin", "DLC_EMULATED_CUDA": settings, **environment})
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def records(folder):
    with open(os.path.join(folder, "results.jsonl")) as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("bundle") / "made")
    text, _ = tool("dlc-tune", "bundle", "-q", f"-target={TARGET}", f"-matmul={SIZES}", "-candidates=5", "-o", folder)
    assert "1 kernels, 5 candidates" in text
    return folder


def test_what_is_right_is_measured(made):
    text, _ = measure(made)
    assert "5 ok" in text and "default" in text
    lines = records(made)
    first = [line for line in lines if line["trial"]["attempt"] == 0]
    assert [line["trial"]["default"] for line in first] == [True, False, False, False, False]
    assert len({json.dumps(line["schedule"], sort_keys=True) for line in first}) == 5
    assert all(line["trial"]["status"] == "ok" and len(line["trial"]["samples_ns"]) == 2 for line in first)
    assert {line["target"]["arch"] for line in lines} == {"cuda"} and lines[0]["workload"]["columns"] == 96


def test_models_of_several_kernels(tmp_path):
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\ng (float16[40, 64] a, float16[64, 72] b) => (float16[40, 72] y) '
                                    '{ p = MatMul(a, b) y = Softmax <axis = -1> (p) }')
    onnx.save(model, tmp_path / "m.onnx")
    folder = str(tmp_path / "bundle")
    text, _ = tool("dlc-tune", "bundle", "-q", f"-target={TARGET}", tmp_path / "m.onnx", "-candidates=3", "-o", folder)
    assert "kernels" in text
    text, _ = measure(folder)
    assert "wrong" not in text and "crash" not in text
    assert {line["workload"]["nest"] for line in records(folder)} >= {"contraction"}


# What cuBLAS and cuDNN are asked for: factors in every order, batches, types, paddings, strides; and what they are not asked for.
PEERS = {
    "plain": ("(float[40, 24] a, float[24, 36] b) => (float[40, 36] y) { y = MatMul(a, b) }", "cuBLAS / "),
    "turned": ("(float[24, 40] a, float[36, 24] b) => (float[40, 36] y) { c = Transpose <perm = [1, 0]> (a) d = Transpose <perm = [1, 0]> (b) y = MatMul(c, d) }", "cuBLAS / "),
    "batch": ("(float16[3, 40, 24] a, float16[3, 24, 40] b) => (float16[3, 40, 40] y) { y = MatMul(a, b) }", "cuBLAS / "),
    "shared": ("(bfloat16[3, 40, 24] a, bfloat16[24, 40] b) => (bfloat16[3, 40, 40] y) { y = MatMul(a, b) }", "cuBLAS / "),
    "bytes": ("(int8[40, 32] a, int8[32, 40] b) => (int32[40, 40] y) { y = MatMulInteger(a, b) }", "cuBLAS / "),
    "gelu": ("(float[40, 24] a, float[24, 36] b, float[36] c) => (float[40, 36] y) { p = MatMul(a, b) q = Add(p, c) y = Gelu(q) }", "cuBLAS (the product alone) / "),
    "1x1": ("(float[2, 24, 8, 8] x, float[20, 24, 1, 1] w) => (float[2, 20, 8, 8] y) { y = Conv(x, w) }", "cuBLAS / "),
    "3x3": ("(float[2, 5, 9, 11] x, float[20, 5, 3, 3] w) => (float[2, 20, 9, 11] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }", "cuDNN / "),
    "strides": ("(float16[1, 6, 9, 12] x, float16[20, 6, 3, 2] w) => (float16[1, 20, 5, 6] y) { y = Conv <pads = [1, 0, 1, 0], strides = [2, 2]> (x, w) }", "cuDNN / "),
    "dilations": ("(float[1, 6, 12, 12] x, float[20, 6, 3, 3] w) => (float[1, 20, 8, 8] y) { y = Conv <dilations = [2, 2]> (x, w) }", "cuDNN / "),
    "relu": ("(float[2, 5, 9, 11] x, float[20, 5, 3, 3] w) => (float[2, 20, 9, 11] y) { c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Relu(c) }", "cuDNN (the product alone) / "),
    "one side padded": ("(float[2, 5, 9, 11] x, float[20, 5, 3, 3] w) => (float[2, 20, 9, 11] y) { y = Conv <pads = [2, 1, 0, 1]> (x, w) }", None),
    "groups": ("(float[1, 40, 6, 6] x, float[40, 20, 3, 3] w) => (float[1, 40, 4, 4] y) { y = Conv <group = 2> (x, w) }", None),
}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("libraries") / "libfake.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_cuda_libraries.c"), "-o", path, "-ldl"], check=True)
    return {"DLC_CUBLAS": path, "DLC_CUDNN": path, "FAKE_CUDA_DRIVER": DRIVER}


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """One bundle of all."""
    folder = tmp_path_factory.mktemp("peers")
    models = []
    for name, (text, _) in PEERS.items():
        models.append(folder / (name.replace(" ", "_") + ".onnx"))
        onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\ng ' + text), models[-1])
    text, errors = tool("dlc-tune", "bundle", "-q", f"-target={TARGET}", *models, "-candidates=2", "-o", folder / "made")
    assert f"{len(PEERS)} kernels" in text, text + errors
    return str(folder / "made")


def test_peers(peers, libraries, tmp_path):
    """Ratios to the libraries, whose results are the kernel's where it computes nothing else. There they are trials too, in which
    `eval -gaps` sees what our nests could do and do not; lookup never takes one."""
    text, errors = measure(peers, settings="sm=80", **libraries)
    blocks = re.split(r"(?m)^(?=\S+ .*: default )", text)[1:]
    assert len(blocks) == len(PEERS), text
    for block, (name, (_, wanted)) in zip(blocks, PEERS.items(), strict=True):
        found = re.findall(r": (cu\w+(?: \(the product alone\))? / )default = [\d.]+, / best = [\d.]+$", block, re.M)
        assert found == ([wanted] if wanted else []), f"{name}: {block}{errors}"
    with open(os.path.join(peers, "peers.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    assert [line["peer"] for line in lines] == [wanted.split()[0] for _, wanted in PEERS.values() if wanted]
    assert all(line["alone"] == ("alone" not in wanted) for line, wanted in zip(lines, [w for _, w in PEERS.values() if w], strict=True))
    assert all(len(line["samples_ns"]) == 2 and line["over_default"] > 0 for line in lines)
    trials = [line["schedule"] for line in records(peers) if line["schedule"]["nest"] == "library"]
    assert trials == [{"nest": "library", "cublas": 130102} if line["peer"] == "cuBLAS" else {"nest": "library", "cudnn": 80907} for line in lines if line["alone"]]
    # As if cuDNN were three times as fast as our default, and cuBLAS slower, on a machine without noise.
    edited, store = [], tmp_path / "tuning.db"
    for line in records(peers):
        factor = 1
        if line["schedule"]["nest"] == "library":
            factor = 1 / 3 if "cudnn" in line["schedule"] else 1.5
        elif not line["trial"]["default"]:
            continue
        line["trial"].update(reference_ns=[1e5, 1e5], samples_ns=[1e5 * factor] * 2)
        edited.append(line)
    (tmp_path / "edited.jsonl").write_text("".join(json.dumps(line) + "\n" for line in edited))
    text, _ = tool("dlc-tune", "import", tmp_path / "edited.jsonl", f"-store={store}")
    assert f"{len(edited)} records added" in text
    text, _ = tool("dlc-tune", "eval", "-gaps", f"-store={store}")
    dnn = sum("cudnn" in schedule for schedule in trials)
    assert f"measured on {len(trials)} kernels" in text and f"open gaps of our nests: {dnn}\n" in text and dnn >= 3, text
    assert len(re.findall(r"(?m)^ +[23]\.\d\dx .*; a100; cuDNN 8\.9\.7$", text)) == dnn and "cuBLAS" not in text, text
    _, errors = tool("dlc", os.path.join(os.path.dirname(peers), "3x3.onnx"), f"-target={TARGET}", "-tune=lookup", f"-tuning-db={store}", "-o", tmp_path / "m.so")
    assert "0 of 1 kernels have a schedule of the database" in errors


def test_wrong_and_missing_peers(peers, libraries, tmp_path):
    """A library that is wrong, refuses, lacks the function or is not there gives no ratio, and takes nothing from the candidates'."""
    for fault, message, ratios in (("wrong", r"max\|a-b\|/max\|b\| beside the default's is ", 1), ("refuse", "cublasGemmStridedBatchedEx: 7", 0)):
        text, errors = measure(peers, "-kernel=40x36x24", settings="sm=80", FAKE_CUDA_FAULT=fault, **libraries)
        # Of the fused one the product cannot be compared.
        assert text.count("2 ok") == 3 and text.count(" / best") == text.count("cuBLAS (the product alone) / ") == ratios, text
        assert len(re.findall("no ratio to cuBLAS: " + message, errors)) == 3 - ratios, errors
    text, errors = measure(peers, settings="sm=80", DLC_CUBLAS=str(tmp_path / "none"), DLC_CUDNN="libm.so.6")
    assert " / best" not in text and errors.count("no ratio to") == 2  # each said once
    assert "cannot open shared object" in errors and "it has no function 'cudnn" in errors
    text, errors = measure(peers, "-no-peers", settings="sm=80", **libraries)
    assert " / best" not in text and "no ratio" not in errors


def plant(made, tmp_path):
    """A copy whose second candidate leaves most of the result out and whose third runs over its end; their schedules."""
    folder = str(tmp_path / "planted")
    shutil.copytree(made, folder)
    path = os.path.join(folder, "candidates.txt")
    with open(path) as file:
        head, *candidates = re.split(r"(?m)^(?=candidate )", file.read())
    schedules = [json.loads(text.split("\n")[0].split(" ", 2)[2]) for text in candidates]

    def edit(i, change):
        candidates[i] = re.sub(r"(?m)^(launch \S+ )(\d+)", lambda m: m[1] + str(change(int(m[2]))), candidates[i])

    edit(1, lambda blocks: max(blocks // 2, 0))
    edit(2, lambda blocks: blocks * 1000)
    with open(path, "w") as file:
        file.write(head + "".join(candidates))
    return folder, schedules


def test_wrong_and_crashing_candidates_are_never_chosen(made, tmp_path):
    folder, schedules = plant(made, tmp_path)
    text, errors = measure(folder, code=1)
    assert "3 ok, 1 wrong, 1 crash" in text and " is wrong: " in errors and " is crash: " in errors
    found = records(folder)
    by_schedule = {json.dumps(line["schedule"], sort_keys=True): line["trial"]["status"] for line in found if line["trial"]["attempt"] == 0}
    keys = [json.dumps(schedule, sort_keys=True) for schedule in schedules]
    assert [by_schedule[key] for key in keys] == ["ok", "wrong", "crash", "ok", "ok"]
    # As if they had been measured once more, and been by far the fastest; a right one takes half of the default's time.
    good = next(line for line in found if line["trial"]["status"] == "ok" and not line["trial"]["default"])
    edited = []
    for number, (i, factor) in enumerate(((1, 0.01), (2, 0.02), (3, 0.5))):
        line = json.loads(json.dumps(good))
        line["schedule"] = schedules[i]
        line["trial"].update(run=f"edited-{number}", attempt=2, samples_ns=[x * factor for x in good["trial"]["reference_ns"]])
        edited.append(line)
    more = tmp_path / "edited.jsonl"
    more.write_text("".join(json.dumps(line) + "\n" for line in edited))
    store = tmp_path / "tuning.db"
    text, _ = tool("dlc-tune", "import", folder, more, f"-store={store}")
    assert f"{len(found) + 3} records added" in text
    text, _ = tool("dlc-tune", "import", folder, f"-store={store}")  # again: nothing new
    assert "0 records added" in text
    text, _ = tool("dlc-tune", "list", f"-store={store}")
    assert "contraction 1x70x96x200" in text and "2.00x" in text
    model = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\ng (float[70, 200] a, float[200, 96] b) => (float[70, 96] y) '
                                      '{ y = MatMul(a, b) }'), model)
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=lookup", f"-tuning-db={store}", "-o", tmp_path / "m.so")
    assert "1 of 1 kernels have a schedule of the database" in errors
    text, _ = tool("dlc", model, f"-target={TARGET}", "-tune=lookup", f"-tuning-db={store}", "-emit=kernels", "-o", "-", "-q")
    chosen = {name: int(value) for name, value in re.findall(r"(\w+) = (\d+) : i64", re.search(r"schedule = \{(.*?)\}", text)[1])}
    assert chosen == {name: value for name, value in schedules[3].items() if name != "nest"}
    tool("dlc-run", tmp_path / "m.so", "-random=1", f"-compare={model}", DLC_CUDA_DRIVER=DRIVER)
    # Without the database, the rules.
    text, _ = tool("dlc", model, f"-target={TARGET}", "-emit=kernels", "-o", "-", "-q")
    assert not re.search(r"schedule = \{[^}]*tile_rows", text)


def test_a_candidate_that_writes_an_operand_is_wrong(made):
    # A process's second launch is its first candidate's; the lowest bit of a float is within every tolerance.
    text, errors = measure(made, settings="sm=80,scribble=2", code=1)
    assert "0 ok, 5 wrong" in text and errors.count("an operand was written") == 5


def test_the_device_is_the_one_a_bundle_is_for(made):
    for name, is_it in (("NVIDIA A100-SXM4-80GB", True), ("A100 80GB PCIe", True), ("NVIDIA A10", False), ("NVIDIA A1000", False), ("GRID XA100", False)):
        _, errors = measure(made, settings=f"sm=80,name={name}", code=0 if is_it else 5)
        assert is_it or f"the bundle is for a100 (sm_80), the device is {name} (sm_80)" in errors


def test_a_hanging_candidate_is_a_result(tmp_path):
    model = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\ng (float[30, 64] a) => (float[30, 64] y) { y = Tanh(a) }'), model)
    folder = str(tmp_path / "bundle")
    tool("dlc-tune", "bundle", "-q", f"-target={TARGET}", model, "-candidates=3", "-o", folder)
    path = os.path.join(folder, "candidates.txt")
    with open(path) as file:
        text = file.read()
    # A map's blocks behind the end have nothing to do, and that takes long if they are many.
    last = text.rindex("launch ")
    with open(path, "w") as file:
        file.write(text[:last] + re.sub(r"^(launch \S+ )\d+", r"\g<1>2000000000", text[last:]))
    text, errors = measure(folder, "-timeout=3", settings="sm=80,check=0")
    assert "2 ok, 1 timeout" in text and "more than 3 s" in errors
    assert [line["trial"]["status"] for line in records(folder) if line["trial"]["attempt"] == 0] == ["ok", "ok", "timeout"]


def test_what_is_not_there(made, tmp_path):
    _, errors = measure(made, f"-driver={tmp_path}/none", code=5)
    assert "no CUDA device" in errors
    for sm in (75, 90):
        _, errors = measure(made, settings=f"sm={sm}", code=5)
        assert f"the bundle is for a100 (sm_80), the device is emulated GPU (sm_{sm})" in errors
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    path = broken / "candidates.txt"
    path.write_text(path.read_text() + "nonsense 1\n")
    _, errors = measure(str(broken), code=2)
    assert "'nonsense 1' is not understood" in errors
    path.unlink()
    _, errors = measure(str(broken), code=2)
    assert "is no bundle" in errors
    _, errors = tool("dlc-tune", "bundle", f"-target={TARGET}", "-o", tmp_path / "x", code=2)
    assert "no models" in errors
