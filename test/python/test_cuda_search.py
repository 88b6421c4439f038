"""Searches on a GPU at hand (-tune of dlc, dlc-tune tune, with -target=cuda) on the emulated driver: results are right, times are the emulator's own.
What is wrong, crashes or hangs is recorded and never chosen, and what was measured before a kill stays."""
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import onnx
import onnx.parser
import pytest

from cuda_runtime import BUILD, DRIVER, ROOT, tool

TARGET = "cuda:sm=80:emulate=on"
HERE = {"DLC_CUDA_DRIVER": DRIVER, "DLC_EMULATED_CUDA": "sm=80,check=1"}
PRODUCT = "(float[40, 64] a, float[64, 72] b) => (float[40, 72] y) { y = MatMul(a, b) }"
# A product, whose blocks decide what is computed, and a map, whose blocks behind the end only take time.
TWO = "(float[40, 64] a, float[64, 72] b, float[30, 64] c) => (float[40, 72] y, float[30, 64] z) { y = MatMul(a, b) z = Tanh(c) }"


def save(text, path):
    onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\ng ' + text), path)
    return path


def trials(store, folder):
    path = os.path.join(folder, "exported.jsonl")
    tool("dlc-tune", "export", f"-store={store}", "-o", path)
    with open(path) as file:
        return [json.loads(line) for line in file]


def name_of(line):
    return json.dumps([line["trial"]["run"], line["trial"]["attempt"], line["schedule"]], sort_keys=True)


def test_a_search_measures_and_is_found_again(tmp_path):
    model, store = save(PRODUCT, tmp_path / "m.onnx"), tmp_path / "t.db"
    arguments = [model, f"-target={TARGET}", "-tune", "-tune-budget=12", f"-tuning-db={store}", "-v", "-o", tmp_path / "m.so"]
    _, errors = tool("dlc", *arguments, **HERE)
    assert "after 12 trials" in errors and "0 failed" in errors
    found = trials(store, tmp_path)
    first = [line for line in found if line["trial"]["attempt"] == 0]
    again = [line for line in found if line["trial"]["attempt"] == 1]
    # Two rounds, the rules' schedule first, then the best once more with more samples; no library, no other kernel.
    assert len(first) == 12 and {line["trial"]["round"] for line in first} == {0, 1}
    assert sum(line["trial"].get("default", False) for line in first) == 1 and len({name_of(line) for line in found}) == len(found)
    assert {len(line["trial"]["samples_ns"]) for line in first} == {9} and {len(line["trial"]["samples_ns"]) for line in again} == {20}
    assert {line["target"]["device"] for line in found} == {"a100"} and {line["workload"]["nest"] for line in found} == {"contraction"}
    assert {line["trial"]["status"] for line in found} == {"ok"} and {line["trial"]["clock"] for line in found} == {"wall"}
    # All is there already; dlc-tune sees the same kernel and repeats its own decisions from the records.
    _, errors = tool("dlc", *arguments, **HERE)
    assert ", 0 candidates measured" in errors
    product = ["-q", f"-target={TARGET}", "-matmul=40x72x64", f"-store={store}"]
    text, _ = tool("dlc-tune", "tune", *product, "-budget=8", "-samples=2", "-seed=2", **HERE)
    assert "0 of them from the store, 0 failed" in text
    text, _ = tool("dlc-tune", "replay", *product, "-seed=2")
    assert "8 measurements, 8 of them from the store" in text
    text, _ = tool("dlc-tune", "list", f"-store={store}")
    assert "trials of 1 kernels" in text
    # Lookup needs no device, and what is taken computes the same.
    for turn in ("a", "b"):
        (tmp_path / turn).mkdir()
        tool("dlc", model, f"-target={TARGET}", "-tune=lookup", f"-tuning-db={store}", "-o", tmp_path / turn / "m.so")
    assert (tmp_path / "a" / "m.so").read_bytes() == (tmp_path / "b" / "m.so").read_bytes()
    tool("dlc-run", tmp_path / "m.so", "-random=1", f"-compare={model}", **HERE)


# Runs the program on what it changes first: of each kernel's candidates (never the reference) one each is as `faults` says.
PLANT = """
import json, os, re, subprocess, sys
state, program, folder, *options = sys.argv[1:]
planted = json.load(open(state)) if os.path.exists(state) else []
path = os.path.join(folder, "candidates.txt")
head, *candidates = re.split(r"(?m)^(?=candidate )", open(path).read())
nest = "contraction" if "product " in head or '"nest":"contraction"' in head else "map"
for i, text in enumerate(candidates[1:], 1):
    schedule = json.loads(text.split("\\n")[0].split(" ", 2)[2])
    left = [fault for fault in {"contraction": ("wrong", "crash"), "map": ("timeout",)}[nest] if fault not in [f for f, _ in planted]]
    if not left:
        break
    change = {"wrong": lambda n: 0, "crash": lambda n: 1000 * n, "timeout": lambda n: 2000000000}[left[0]]
    candidates[i] = re.sub(r"(?m)^(launch \\S+ )(\\d+)", lambda m: m[1] + str(change(int(m[2]))), text)
    planted.append([left[0], schedule])
open(path, "w").write(head + "".join(candidates))
json.dump(planted, open(state, "w"))
options = ["-timeout=4" if option.startswith("-timeout=") else option for option in options]
sys.exit(subprocess.run([program, folder, *options]).returncode)
"""


def test_wrong_crashing_and_hanging_candidates_are_never_chosen(tmp_path):
    model, store, state = save(TWO, tmp_path / "m.onnx"), tmp_path / "t.db", tmp_path / "planted.json"
    (tmp_path / "plant.py").write_text(PLANT)
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=quick", f"-tune-runner={sys.executable} {tmp_path}/plant.py {state}", f"-tuning-db={store}", "-v",
                     "-emit=shared,report", "-o", tmp_path / "m.so", **HERE)
    planted = json.loads(state.read_text())
    assert [fault for fault, _ in planted] in (["wrong", "crash", "timeout"], ["timeout", "wrong", "crash"])
    assert ", 3 failed" in errors
    found = trials(store, tmp_path)
    failed = {json.dumps(line["schedule"], sort_keys=True): line["trial"] for line in found if line["trial"]["status"] != "ok"}
    assert {json.dumps(schedule, sort_keys=True): fault for fault, schedule in planted} == {schedule: trial["status"] for schedule, trial in failed.items()}
    assert all(trial["reason"] and "samples_ns" not in trial for trial in failed.values())
    assert any("more than 4 s" in trial["reason"] for trial in failed.values())
    # None of them was measured again, and no kernel has one.
    assert not [line for line in found if line["trial"]["attempt"] and json.dumps(line["schedule"], sort_keys=True) in failed]
    text, _ = tool("dlc", model, f"-target={TARGET}", "-tune=lookup", f"-tuning-db={store}", "-emit=kernels", "-o", "-", "-q")
    for knobs in re.findall(r"schedule = \{([^}]*)\}", text):
        taken = {name: int(value) for name, value in re.findall(r"(\w+) = (\d+) : i64", knobs)}
        assert taken not in [{k: v for k, v in schedule.items() if k != "nest"} for _, schedule in planted]
    tool("dlc-run", tmp_path / "m.so", "-random=1", f"-compare={model}", **HERE)


def running(word):
    """Processes whose command line has `word`."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                if word.encode() in file.read():
                    found.append(int(number))
        except OSError:
            pass
    return found


def test_a_kill_loses_no_round_and_the_search_goes_on(tmp_path):
    model, store = save(PRODUCT, tmp_path / "m.onnx"), tmp_path / "t.db"
    arguments = [model, f"-target={TARGET}", "-tune", "-tune-budget=40", f"-tuning-db={store}", "-o", tmp_path / "m.so"]
    search = subprocess.Popen([os.path.join(BUILD, "bin", "dlc"), *map(str, arguments), "-q"], env={**os.environ, **HERE, "TMPDIR": str(tmp_path)})
    before = []
    for _ in range(600):
        time.sleep(0.05)
        if store.exists() and (before := trials(store, tmp_path)):
            break
    search.send_signal(signal.SIGKILL)
    search.wait()
    assert before and search.returncode == -signal.SIGKILL
    for _ in range(100):  # what measures for it ends, too
        if not running(f"{tmp_path}/dlc-search"):
            break
        time.sleep(0.05)
    assert not running(f"{tmp_path}/dlc-search")
    kept = trials(store, tmp_path)
    assert {name_of(line) for line in before} <= {name_of(line) for line in kept}
    _, errors = tool("dlc", *arguments, **HERE)
    measured = int(re.search(r", (\d+) candidates measured", errors)[1])
    after = {name_of(line): line for line in trials(store, tmp_path)}
    assert all(after[name_of(line)] == line for line in kept)
    assert len(after) == len(kept) + measured and len({line["trial"]["run"] for line in after.values()}) == 1
    assert len([line for line in after.values() if line["trial"]["attempt"] == 0]) <= 40


def test_what_is_missing_is_said(tmp_path):
    model = save(PRODUCT, tmp_path / "m.onnx")
    dlc = [model, f"-target={TARGET}", "-tune=quick", f"-tuning-db={tmp_path / 't.db'}", "-o", tmp_path / "m.so"]
    tune = ["tune", f"-target={TARGET}", "-matmul=40x72x64", f"-store={tmp_path / 't.db'}"]
    for name, arguments in (("dlc", dlc), ("dlc-tune", tune)):
        for settings, message in (({"DLC_CUDA_DRIVER": "libnone.so.1"}, "the CUDA driver cannot be opened: libnone.so.1"),
                                  ({**HERE, "DLC_EMULATED_CUDA": "devices=0"}, "it finds no device"),
                                  ({**HERE, "DLC_EMULATED_CUDA": "sm=80,name=NVIDIA A10"}, "is for a100 (sm_80), the device is NVIDIA A10 (sm_80)")):
            _, errors = tool(name, *arguments, code=5, **settings)
            assert message in errors, errors
            assert all(way in errors for way in ("-tune-runner=<command>", "dlc-tune bundle and import", "-tune=lookup")), errors
        _, errors = tool(name, *arguments, "-tune-runner=nowhere", code=5, **HERE)
        assert "'nowhere' cannot be run" in errors
        _, errors = tool(name, *arguments, "-tune-runner=true", code=5, **HERE)  # measures nothing
        assert "results.jsonl" in errors
    assert not (tmp_path / "m.so").exists()
    assert not os.path.exists(tmp_path / "t.db") or not trials(tmp_path / "t.db", tmp_path)
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=static", "-o", tmp_path / "m.so", code=2)
    assert "-tune=static estimates times of CPUs" in errors
    _, errors = tool("dlc", model, f"-target={TARGET}", "-tune=lookup", "-tune-runner=true", "-o", tmp_path / "m.so", code=2)
    assert "-tune-runner= is for -tune" in errors
    _, errors = tool("dlc", model, "-tune", "-tune-runner=true", f"-tuning-db={tmp_path / 't.db'}", "-o", tmp_path / "m.so", code=2)
    assert "-tune-runner= is for GPUs" in errors
    _, errors = tool("dlc-tune", *tune, "-workers=processes://1", code=2)
    assert "are for CPUs" in errors


def test_another_machine_measures(tmp_path):
    """utils/measure-over-ssh, with an ssh that runs the command here and keeps what the machine is asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / "ssh"
    # The driver is only known on the other machine.
    fake.write_text(f"#!/bin/sh\necho \"$1\" >> {tmp_path}/hosts\nDLC_CUDA_DRIVER={DRIVER} DLC_EMULATED_CUDA=sm=80 exec sh -c \"$2\"\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    store = tmp_path / "t.db"
    arguments = ["tune", "-q", f"-target={TARGET}", "-matmul=40x72x64", "-budget=4", "-samples=2", f"-store={store}"]
    runner = f"-tune-runner={ROOT}/utils/measure-over-ssh some-gpu"
    there = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    text, _ = tool("dlc-tune", *arguments, runner, **there)
    assert "0 failed" in text and len(trials(store, tmp_path)) >= 4
    assert set((tmp_path / "hosts").read_text().split()) == {"some-gpu"}
    assert not [name for name in os.listdir(tmp_path) if name.startswith(("dlc-search", "tmp."))]
    fake.write_text("#!/bin/sh\necho 'ssh: some-gpu is not known' >&2\nexit 255\n")
    _, errors = tool("dlc-tune", *arguments, runner, code=5, **there)
    assert "ssh: some-gpu is not known" in errors


@pytest.mark.parametrize("target", ["cuda:sm=80:emulate=on", "cuda:sm=90a:emulate=on"])
def test_schedules_of_attentions_are_found_again(target, tmp_path):
    """An attention's laws decide about its instructions, and with them about its key and its knobs: lookup sees what a bundle and a search saw."""
    model, store = save("(float16[1, 4, 80, 64] q, float16[1, 4, 80, 64] k, float16[1, 4, 80, 64] v) => (float16[1, 4, 80, 64] y) "
                        "{ t = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, t) w = Softmax <axis = -1> (s) y = MatMul(w, v) }", tmp_path / "m.onnx"), tmp_path / "t.db"
    settings = {**HERE, "DLC_EMULATED_CUDA": "sm=80" if "80" in target else "sm=90"}
    tool("dlc", model, f"-target={target}", "-tune=quick", f"-tuning-db={store}", "-q", "-o", tmp_path / "m.so", **settings)
    found = trials(store, tmp_path)
    assert {line["workload"]["nest"] for line in found} == {"attention"}
    good = next(line for line in found if line["trial"]["status"] == "ok" and not line["trial"].get("default"))
    good["trial"].update(run="edited", attempt=3, samples_ns=[x / 2 for x in good["trial"]["reference_ns"]])
    tool("dlc-tune", "bundle", "-q", f"-target={target}", model, "-candidates=1", "-o", tmp_path / "bundle")
    bundled = re.search(r"(?m)^workload (.*)$", (tmp_path / "bundle" / "candidates.txt").read_text())[1]
    assert json.loads(bundled) == good["workload"]
    (tmp_path / "edited.jsonl").write_text(json.dumps(good) + "\n")
    tool("dlc-tune", "import", tmp_path / "edited.jsonl", f"-store={tmp_path / 'other.db'}")
    text, errors = tool("dlc", model, f"-target={target}", "-tune=lookup", f"-tuning-db={tmp_path / 'other.db'}", "-emit=kernels", "-o", "-", "-v")
    assert "1 of 1 kernels have a schedule of the database" in errors
    taken = {name: int(value) for name, value in re.findall(r"(\w+) = (\d+) : i64", text)}
    assert taken == {name: value for name, value in good["schedule"].items() if name != "nest"}
    assert "laws = [" in text
