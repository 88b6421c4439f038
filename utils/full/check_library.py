#!/usr/bin/env python3
"""Builds a kernel library and verifies every instance: check_library.py MANIFEST --out=FOLDER [options] -- [options of its profiler]

The profiler runs once an operation, and its CSV is kept in FOLDER/verified: a run that was cut short goes on with the operations that
are left, as long as dlc and the manifest are the same. --run-under=qemu-aarch64: a library for another CPU, called by a C program
(library_caller.c) under an emulator; inputs, references and comparisons are the profiler's. --static-gate: what ptxas says of every
launch is judged as check_cuda.py does. Fails when an instance was neither verified nor skipped for its work (or for a CPU that this
machine is not). The last line is `N passed, N failed, N skipped`, instances."""
import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SYSROOT = "/usr/aarch64-linux-gnu"


def fingerprint(manifest, target):
    """Of everything that a library is made of."""
    digest = hashlib.sha256(target.encode())
    for path in (shutil.which("dlc"), manifest):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def build(o):
    """Builds the library, unless it lies there; the seconds it took."""
    wanted, made = fingerprint(o.manifest, o.target), os.path.join(o.out, "made.json")
    if os.path.exists(made):
        with open(made) as file:
            old = json.load(file)
        if old["of"] == wanted:
            return old["seconds"]
    shutil.rmtree(o.out, ignore_errors=True)
    start = time.time()
    subprocess.run(["dlc", o.manifest, "-emit=kernel-library", "-target=" + o.target, "-o", o.out], check=True)
    seconds = time.time() - start
    if o.run_under:
        build_caller(o)
    with open(made, "w") as file:
        json.dump({"of": wanted, "seconds": seconds}, file)
    return seconds


def library_name(out):
    return next(f for f in os.listdir(os.path.join(out, "lib")) if f.endswith(".a"))[3:-2]


def build_caller(o):
    """A static program of the library's functions for AArch64."""
    name = library_name(o.out)
    stem = os.path.join(o.out, "caller")
    subprocess.run(["clang", "--target=aarch64-linux-gnu", "-isystem", SYSROOT + "/include", "-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O1",
                    "-fPIE", "-DNAME=" + name, f'-DHEADER="{name}.h"', "-I" + os.path.join(o.out, "include"), "-c",
                    os.path.join(HERE, "library_caller.c"), "-o", stem + ".o"], check=True)
    lib = SYSROOT + "/lib/"
    subprocess.run(["ld.lld", "-pie", "-dynamic-linker", "/lib/ld-linux-aarch64.so.1", "-o", stem, lib + "Scrt1.o", lib + "crti.o",
                    stem + ".o", os.path.join(o.out, "lib", f"lib{name}.a"), "-L" + lib, "-lm", "-lpthread", "-lc", lib + "crtn.o"], check=True)


def count_kept(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--out", required=True)
    parser.add_argument("--target", default="x86")
    parser.add_argument("--most-seconds", type=float, help="that the build may take")
    parser.add_argument("--most-bytes", type=float, help="that the archive may have")
    parser.add_argument("--static-gate", action="store_true")
    parser.add_argument("--run-under")
    words, options = sys.argv[1:], []
    if "--" in words:
        words, options = words[:words.index("--")], words[words.index("--") + 1:]
    o = parser.parse_args(words)
    seconds, wrong = build(o), 0
    name = library_name(o.out)
    size = os.path.getsize(os.path.join(o.out, "lib", f"lib{name}.a"))
    table_path = os.path.join(o.out, "share", "dlck", name + ".json")
    with open(table_path) as file:
        operations = json.load(file)["operations"]
    print(f"{o.out}: built in {seconds:.0f} s, {size / 1e6:.1f} MB, {sum(len(op['instances']) for op in operations)} instances", flush=True)
    for what, value, most in (("seconds", seconds, o.most_seconds), ("bytes", size, o.most_bytes)):
        if most is not None and value > most:
            print(f"{value:.0f} {what}, at most {most:.0f} are allowed")
            wrong += 1
    if o.static_gate:
        wrong += subprocess.run([sys.executable, os.path.join(HERE, "check_cuda.py"), table_path]).returncode != 0
    kept = os.path.join(o.out, "verified")
    os.makedirs(kept, exist_ok=True)
    environment = dict(os.environ, PYTHONPATH=os.path.join(o.out, "python"))
    profiler = ["-m", name + ".profile"] if not o.run_under else [
        os.path.join(HERE, "library_caller.py"), name, o.run_under, os.path.join(o.out, "caller")]
    passed = failed = skipped = 0
    for op in operations:
        path = os.path.join(kept, op["name"] + ".csv")
        if not os.path.exists(path):
            with open(path + ".part", "w") as file:
                done = subprocess.run([sys.executable, *profiler, "--verify-only", "--ops=" + op["name"], *options],
                                      stdout=file, stderr=subprocess.PIPE, text=True, env=environment)
            if done.returncode:
                print(done.stderr.strip(), flush=True)
            else:
                os.rename(path + ".part", path)
        rows = count_kept(path if os.path.exists(path) else path + ".part")
        good = sum(row["verified"] == "yes" for row in rows)
        left = sum(row["verified"] == "skipped" for row in rows)
        bad = len(op["instances"]) - good - left
        passed, failed, skipped = passed + good, failed + bad, skipped + left
        worst = max([float(row["worst"]) for row in rows if row["verified"] == "yes"], default=0)
        print(f"{op['name']}: {good} verified (worst {worst:.2f} of the gate), {bad} not, {left} skipped", flush=True)
    print(f"{passed} passed, {failed + wrong} failed, {skipped} skipped")
    return failed + wrong > 0


if __name__ == "__main__":
    sys.exit(main())
