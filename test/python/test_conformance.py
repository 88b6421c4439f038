"""A seeded sample of onnx's backend suite: dlc must not be wrong, crash or hang on any of it (the full tier runs all)."""
import json
import os
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
RUNNER = os.path.join(ROOT, "utils", "bench", "conformance.py")


def run_suite(tmp_path, *arguments):
    """Runs the conformance runner with a seeded sample; (exit status, its JSON, its output)."""
    results = str(tmp_path / "results.json")
    command = [sys.executable, RUNNER, "--static-params", "--strict", "--sample", "120", "--seed", "20", "--json", results, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=800)
    with open(results) as file:
        return done.returncode, json.load(file), done.stdout


def test_sample(tmp_path):
    near = os.path.join(ROOT, "utils", "full", "near.txt")
    status, found, output = run_suite(tmp_path, "--system", "dlc", "--near-file", near, "--jobs", "2")
    assert status == 0, output
    # A compiler that refuses everything is never wrong: half of the sample must really run.
    assert found["total"].get("pass", 0) >= 60, output


def test_a_wrong_system_is_found_out(tmp_path):
    """Negative control: the reference with every float output moved by one must fail the same run."""
    adapter = tmp_path / "shifted.py"
    adapter.write_text(
        "import conformance\n"
        "class Shifted(conformance.ReferenceAdapter):\n"
        "    def run(self, compiled, inputs):\n"
        "        shift = lambda y: y + 1 if getattr(getattr(y, 'dtype', None), 'kind', '') == 'f' else y\n"
        "        return [shift(y) for y in super().run(compiled, inputs)]\n")
    status, found, output = run_suite(tmp_path, "--system", f"{adapter}:Shifted")
    assert status == 1, output
    assert found["total"].get("wrong", 0) >= 60, output


def test_a_cut_run_goes_on(tmp_path):
    """--resume runs what the JSON lacks and nothing else, keeps what it has, and refuses another configuration's results."""
    log, results = tmp_path / "log", tmp_path / "results.json"
    adapter = tmp_path / "noted.py"
    adapter.write_text(
        "import conformance\n"
        "class Noted(conformance.ReferenceAdapter):\n"
        "    def compile(self, path):\n"
        f"        open({str(log)!r}, 'a').write(path + '\\n')\n"
        "        return super().compile(path)\n")

    def run(*arguments):
        log.write_text("")
        done = subprocess.run([sys.executable, RUNNER, "--system", f"{adapter}:Noted", "--sample", "60", "--json", str(results), *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
        return done.returncode, len(log.read_text().splitlines()), done.stdout

    _, ran, output = run()
    assert ran == 60 and "50/60" in output, output
    whole = json.loads(results.read_text())
    cut = dict(whole, results=dict(list(whole["results"].items())[:47]))
    kept = next(name for name, result in cut["results"].items() if result["status"] == "pass")
    cut["results"][kept]["status"] = "wrong"
    results.write_text(json.dumps(cut))
    status, ran, output = run("--resume", "--strict")
    assert ran == 13 and status == 1 and f"not acceptable: {kept}" in output, output
    again = json.loads(results.read_text())
    assert again["results"].keys() == whole["results"].keys() and again["total"]["wrong"] == whole["total"].get("wrong", 0) + 1
    status, ran, output = run("--resume", "--static-params")
    assert ran == 0 and status != 0 and "static_params" in output, output
