"""dlc-exec: results and times of an artifact from the command line, and where the time went."""
import os
import subprocess

import models
import numpy as np
import pytest
from onnx import helper


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with mlp.so, x.npy and what y should be, y.npy."""
    folder = tmp_path_factory.mktemp("exec")
    path, reference = models.mlp(folder / "mlp.onnx")
    x = np.random.default_rng(1).normal(size=(64, 33)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", reference(x))
    subprocess.run(["dlc", str(path), "-q", "-o", str(folder / "mlp.so")], check=True)
    return folder


def execute(folder, *arguments):
    return subprocess.run(["dlc-exec", *arguments], capture_output=True, text=True, cwd=folder)


def test_outputs(folder):
    done = execute(folder, "mlp.so", "-inputs=x.npy", "-outputs=out")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(folder / "out" / "output_0.npy"), np.load(folder / "y.npy"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", ["mlp.so", "./mlp.so", "absolute"])
def test_times_and_samples(folder, path):
    """Samples have the names of kernels, however the artifact is named."""
    done = execute(folder, str(folder / "mlp.so") if path == "absolute" else path, "-inputs=x.npy", "-bench=50000", "-threads=1", "-profile")
    assert done.returncode == 0, done.stderr
    times, *samples = done.stdout.splitlines()
    least, median = map(int, times.split())
    assert 0 < least <= median
    shares = {name: int(count) for count, name in map(str.split, samples)}
    assert shares and all(count > 0 for count in shares.values())
    assert set(shares) - {"(runtime)"}


def test_artifacts_in_turns(folder):
    """A line a round with a time of each; one that does hundreds of times the work takes longer in every round."""
    wide = {"w1": np.ones((33, 20000), np.float32), "w2": np.ones((20000, 10), np.float32)}
    models.save(folder / "slow.onnx", [helper.make_node("MatMul", ["x", "w1"], ["h"]), helper.make_node("MatMul", ["h", "w2"], ["y"])],
                [models.value("x", [64, 33])], [models.value("y", [64, 10])], wide)
    subprocess.run(["dlc", "slow.onnx", "-q", "-o", "slow.so"], check=True, cwd=folder)
    done = execute(folder, "mlp.so", "-inputs=x.npy", "-bench=5", "-beside=slow.so,./mlp.so", "-threads=1")
    assert done.returncode == 0, done.stderr
    rounds = [[int(n) for n in line.split()] for line in done.stdout.splitlines()]
    assert len(rounds) == 5 and all(len(row) == 3 and min(row) > 0 for row in rounds)
    assert all(slow > 5 * max(first, again) for first, slow, again in rounds)
    # All of them need a time, and no samples are taken of several.
    for status, *more in [(2, "-beside=mlp.so"), (2, "-bench=3", "-beside=mlp.so", "-profile"), (1, "-bench=3", "-beside=absent.so")]:
        done = execute(folder, "mlp.so", "-inputs=x.npy", *more)
        assert done.returncode == status and done.stderr.strip(), (more, done.returncode)


def test_refusals(folder):
    (folder / "text.so").write_text("no library")
    for status, *arguments in [(2,), (2, "mlp.so", "-bench=none"), (3, "mlp.so", "-inputs=absent.npy"), (1, "text.so", "-info"),
                               (2, "mlp.so", "-inputs=x.npy,x.npy"), (3, "mlp.so", "-inputs=x.npy", "-outputs=absent/out")]:
        done = execute(folder, *arguments)
        assert done.returncode == status and done.stderr.strip(), (arguments, done.returncode, done.stderr)
