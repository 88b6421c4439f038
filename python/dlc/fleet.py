"""Measuring candidates of the tuner on other machines; `dlc-tune tune -workers=<address>` starts it.

    python3 -m dlc.fleet ray://host:port /path/to/dlc-tune    a running Ray cluster
    python3 -m dlc.fleet ray://local /path/to/dlc-tune        one on this machine
    python3 -m dlc.fleet processes://2 /path/to/dlc-tune      processes of this machine, without Ray

Needs the extra `dlc[fleet]` (the package ray) but for the last. An address may end in /<resource>: only nodes that
declare this resource get jobs (`ray start --resources='{"sapphirerapids": 1}'`); a worker whose CPU is not the job's
declines it.

One JSON object a line. In: {"id": 7, "job": "path of a file"}. Out: first {"workers": 2} or {"error": "..."}, then for
each job, in any order, {"id": 7, "result": {...}} with what `dlc-tune measure` printed, or {"id": 7, "error": "..."}.
The tuner alone writes the store. A job whose worker dies is given to another one; that it may run twice is no harm.
"""

import concurrent.futures
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading

RETRIES = 5


def measure(job, program):
    """Runs `program measure` on the bytes of a job; its answer as a dictionary. Raises when there is none."""
    with tempfile.NamedTemporaryFile(suffix=".job") as file:
        file.write(job)
        file.flush()
        done = subprocess.run([program, "measure", file.name], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip() or f"{program} measure ended with {done.returncode}")[-500:])
    return json.loads(done.stdout)


class Processes:
    """Jobs on this machine, `count` at a time."""

    def __init__(self, count, program):
        self.program, self.count = program, count
        self.pool = concurrent.futures.ThreadPoolExecutor(count)

    def submit(self, job, done):
        def run():
            for attempt in range(RETRIES + 1):
                try:
                    return done(measure(job, self.program), None)
                except Exception as error:
                    reason = str(error)
            done(None, reason)
        self.pool.submit(run)

    def close(self):
        self.pool.shutdown()


class Cluster:
    """Jobs on a Ray cluster: a task each, tried again where a worker dies."""

    def __init__(self, address, resource, program):
        import ray
        self.ray, self.program = ray, program
        if address == "local":
            ray.init(log_to_driver=False, logging_level="error")
        else:
            # The driver's own protocol for a node of this machine, Ray's client for others.
            ray.init(address=address, log_to_driver=False, logging_level="error")
        # A job that a worker declines may suit another.
        options = {"num_cpus": 1, "max_retries": RETRIES, "retry_exceptions": True}
        if resource:
            options["resources"] = {resource: 0.001}
        self.task = ray.remote(**options)(measure)
        self.count = int(ray.cluster_resources().get("CPU", 1))

    def submit(self, job, done):
        reference = self.task.remote(job, self.program)

        def wait():
            try:
                done(self.ray.get(reference), None)
            except Exception as error:
                done(None, str(error).strip().splitlines()[-1])
        threading.Thread(target=wait, daemon=True).start()

    def close(self):
        self.ray.shutdown()


def connect(address, program):
    """The workers of an address; ValueError or whatever Ray raises."""
    scheme, _, rest = address.partition("://")
    if scheme == "processes":
        return Processes(max(1, int(rest or os.cpu_count())), program)
    if scheme != "ray" or not rest:
        raise ValueError("expected ray://<host:port>[/<resource>], ray://local or processes://<n>")
    where, _, resource = rest.partition("/")
    return Cluster(where, resource, program)


def serve(workers, lines, out):
    """Hands out the jobs of `lines` and writes each answer when it comes."""
    answers = queue.Queue()
    lock = threading.Lock()
    open_jobs = [0]

    def answer(number, result, error):
        with lock:
            print(json.dumps({"id": number, "error": error} if error else {"id": number, "result": result}), file=out, flush=True)
            open_jobs[0] -= 1
        answers.put(number)

    for line in lines:
        request = json.loads(line)
        with open(request["job"], "rb") as file:
            job = file.read()
        os.unlink(request["job"])
        with lock:
            open_jobs[0] += 1
        workers.submit(job, lambda result, error, number=request["id"]: answer(number, result, error))
    while open_jobs[0] > 0:
        answers.get()


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    # Whatever Ray prints must not look like an answer.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        workers = connect(*arguments)
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        print(json.dumps({"error": reason.strip().splitlines()[-1] if reason.strip() else "no cluster"}), file=out, flush=True)
        return 1
    print(json.dumps({"workers": workers.count}), file=out, flush=True)
    try:
        serve(workers, sys.stdin, out)
    except BrokenPipeError:
        pass
    finally:
        workers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
