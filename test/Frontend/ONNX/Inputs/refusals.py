"""Runs dlc on models that are wrong on purpose and judges how it refuses each.

Every refusal must come within the time limit, with exit code 1 (model rejected)
or 3 (file). Each of its lines must name the file, and the message must hold a
word of the cause; nothing may be left where the artifact would have been. A
crash, a hang, an accepted bad model or a refused good one fails. The last lines
count the refusals that name the place (the node, tensor, value, graph or
function; the file itself where no part of it is at fault) and the failures.
"""
import os
import re
import resource
import subprocess
import sys

TIME_LIMIT = 20
MEMORY_LIMIT = 6 << 30
PLACE = re.compile(r"(node|input|output|initializer|value|graph|function|tensor) (of )?'")


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def run(dlc, path, flags=()):
    """-> (exit code or 'hang', what it said)"""
    # The sanitizers reserve terabytes of addresses; loaded into a shell they would catch its signals.
    guard = None if os.environ.get("ASAN_OPTIONS") else limit
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    try:
        p = subprocess.run([dlc, path, *flags], capture_output=True, timeout=TIME_LIMIT, preexec_fn=guard, env=environment)
    except subprocess.TimeoutExpired:
        return "hang", ""
    return p.returncode, p.stderr.decode("utf-8", "replace")


def judge(code, said, words, path, left):
    """Why this is not as it should be; empty when it is."""
    if words is None:
        return "" if code == 0 else f"refused a good model (exit {code}): {said.strip()[:300]}"
    if code == 0:
        return "accepted"
    if code not in (1, 3):
        return f"exit {code}: {said.strip()[-300:]}"
    if left:
        return f"leaves {left}"
    if not all(line.startswith(f"dlc: error: {path}: ") for line in said.splitlines()):
        return f"does not name the file: {said.strip()[:300]}"
    return "" if any(w.lower() in said.lower() for w in words) else f"unclear: {said.strip()[:300]}"


def main(cases, whole, flags):
    """Runs the cases: {name: (writer, words)}, the names whose file as a whole is at fault, further flags by name."""
    folder, dlc, *names = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    failures, refusals, placed = [], 0, []
    chosen = {n: c for n, c in cases.items() if not names or n in names}
    for name, (write, words) in chosen.items():
        path = os.path.join(folder, name + ".onnx")
        write(path)
        out = os.path.join(folder, name + ".out")
        os.makedirs(out, exist_ok=True)
        target = ["-emit=graph", "-o", "-"] if words is None else ["-o", os.path.join(out, "model.so")]
        code, said = run(dlc, path, target + flags[name])
        why = judge(code, said, words, path, os.listdir(out))
        if why:
            failures.append(f"{name}: {why}")
        if words is not None:
            refusals += 1
            if code in (1, 3) and (name in whole or PLACE.search(said)):
                placed.append(name)
            elif not why:
                print(f"{name}: names no place: {said.strip()[:200]}")
    print("\n".join(failures))
    print(f"{len(placed)} of {refusals} refusals name the place ({100 * len(placed) / max(1, refusals):.1f} %)")
    if len(placed) < 0.95 * refusals:
        failures.append("too few refusals name the place")
    print(f"{len(chosen)} models, {len(failures)} failures")
    return 1 if failures else 0
