"""dlc-tune tune -workers=: jobs on other processes, answers that are no measurement, workers that die. With Ray where it is
installed; the protocol and the tuner's side without it."""
import importlib.util
import json
import os
import signal
import subprocess
import time

import pytest

from tuning_store import records_of

TUNE = ["dlc-tune", "tune", "-matmul=24x32x40", "-samples=2", "-model=none"]


def tune(store, *flags, **kwargs):
    return subprocess.run([*TUNE, f"-store={store}", *flags], capture_output=True, text=True, **kwargs)


def test_processes_measure_as_the_tuner_does(tmp_path):
    far, near = tmp_path / "far.db", tmp_path / "near.db"
    done = tune(far, "-q", "-budget=6", "-workers=processes://2")
    assert done.returncode == 0, done.stderr
    assert tune(near, "-q", "-budget=6").returncode == 0
    a, b = (records_of(store, tmp_path / "r.jsonl") for store in (far, near))
    # The same first round: workers change where, not what, is measured.
    def first(records):
        return {json.dumps(r["schedule"], sort_keys=True) for r in records if r["trial"]["round"] == 0 and not r["trial"]["attempt"]}
    assert first(a) == first(b) and len(first(a)) == 6
    assert all(r["trial"]["status"] == "ok" and len(r["trial"]["samples_ns"]) >= 2 for r in a)


def test_answers_that_are_none(tmp_path):
    done = tune(tmp_path / "a.db", "-q", "-budget=4", "-workers=ray:")
    assert done.returncode == 5 and "expected ray://" in done.stderr
    done = tune(tmp_path / "a.db", "-q", "-budget=4", "-workers=processes://x")
    assert done.returncode == 5 and "-workers=processes://x" in done.stderr
    path = tmp_path / "bad.job"
    path.write_bytes(b"dlc job 1\n" + bytes(40))
    for content in (b"", b"dlc job 0\n", path.read_bytes(), b"dlc job 1\n" + b"\xff" * 64):
        path.write_bytes(content)
        done = subprocess.run(["dlc-tune", "measure", path], capture_output=True, text=True)
        assert done.returncode == 1 and ("none of this version" in done.stderr or "the job is for" in done.stderr), done.stderr


class Jobs:
    """Workers of which every third job fails as if no worker could be had."""
    count = 1

    def __init__(self, failing):
        self.failing, self.seen = failing, 0

    def submit(self, job, done):
        self.seen += 1
        if self.seen % 3 == 0 and self.failing:
            return done(None, "the worker is gone")
        return done({"status": "ok", "bytes": len(job)}, None)


@pytest.mark.parametrize("failing", [False, True])
def test_every_job_is_answered_once(tmp_path, failing):
    import io

    from dlc import fleet
    lines = []
    for i in range(7):
        path = tmp_path / f"{i}.job"
        path.write_bytes(b"x" * i)
        lines.append(json.dumps({"id": i, "job": str(path)}))
    out = io.StringIO()
    fleet.serve(Jobs(failing), lines, out)
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sorted(answer["id"] for answer in answers) == list(range(7))
    assert sum("error" in answer for answer in answers) == (2 if failing else 0)
    assert all(answer["result"]["bytes"] == answer["id"] for answer in answers if "result" in answer)
    assert not list(tmp_path.glob("*.job"))


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the package ray is not installed (extra dlc[fleet])")


def descendants(root):
    """Process ids below `root` with their arguments."""
    children = {}
    for line in subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]:
        pid, parent, *args = line.split(None, 2)
        children.setdefault(int(parent), []).append((int(pid), args[0] if args else ""))
    found, open_ = [], [root]
    while open_:
        for pid, args in children.get(open_.pop(), []):
            found.append((pid, args))
            open_.append(pid)
    return found


@needs_ray
def test_two_nodes_and_workers_that_are_killed(tmp_path):
    """A cluster of two nodes: workers and what they run are killed while they measure, then a node goes. The search ends, with
    as many records as were asked for, none of them a failure."""
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node, search = cluster.add_node(num_cpus=1), None
    try:
        store = tmp_path / "a.db"
        search = subprocess.Popen([*TUNE, f"-store={store}", "-budget=12", f"-workers=ray://{cluster.address}"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        kills, end = 0, time.time() + 400
        while search.poll() is None and time.time() < end:
            time.sleep(0.05)  # a job takes little more
            below = descendants(os.getpid())
            # Not what a job forks, under the same arguments: that is the candidate, whose death is a result.
            jobs = {args: pid for pid, args in reversed(below) if " measure " in args}
            workers = [pid for pid, args in below if "ray::measure" in args] + list(jobs.values())
            if workers and kills < 4:
                try:
                    os.kill(workers[-1], signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it was just done
                kills += 1
                if kills == 3:
                    cluster.remove_node(node)
        out, err = search.communicate(timeout=60)
        assert search.returncode == 0, err
        assert kills > 0
        records = records_of(store, tmp_path / "r.jsonl")
        assert len([r for r in records if not r["trial"]["attempt"]]) == 12
        assert {r["trial"]["status"] for r in records} == {"ok"}
        # What the store holds is what the decisions were made of.
        replayed = subprocess.run(["dlc-tune", "replay", "-matmul=24x32x40", "-model=none", f"-store={store}"], capture_output=True, text=True)
        assert replayed.returncode == 0, replayed.stderr
    finally:
        if search and search.poll() is None:
            search.kill()
        cluster.shutdown()
