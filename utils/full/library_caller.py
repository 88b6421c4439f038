"""The profiler of a kernel library for another CPU: library_caller.py NAME EMULATOR PROGRAM [options of the profiler]

Inputs, references, comparisons and controls are those of `python -m NAME.profile --verify-only` (found by PYTHONPATH); the calls are made by
PROGRAM (library_caller.c) under EMULATOR."""
import ctypes
import importlib
import struct
import subprocess
import sys


class NoLibrary:
    """In place of a shared object that this machine cannot load; functions that only set something are there."""

    def __init__(self, *_):
        self.functions = {}

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self.functions.setdefault(name, lambda *_: 0)


def connect(name, command):
    """The profiler's module, with its calls made by the program."""
    load, ctypes.CDLL = ctypes.CDLL, NoLibrary
    library = importlib.import_module(name)
    profile = importlib.import_module(name + ".profile")
    ctypes.CDLL = load
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(count):
        data = program.stdout.read(count)
        if len(data) != count:
            raise RuntimeError(f"the program ended with {program.wait()}")
        return data

    def run(op, sizes, arrays, index, shift=0, kept=None):
        outputs = {t["name"]: profile.Guarded(op.shape(t, sizes), library.DTYPES[t["dtype"]]) for t in op.outputs}
        words = [op.index, index, len(sizes), *sizes, len(op.tensors)]
        parts = [struct.pack(f"<{len(words)}q", *words)]
        for tensor in op.tensors:
            if tensor["output"]:
                guard = outputs[tensor["name"]]
                kind, offset, data = 1, guard.start, guard.bytes.tobytes()
            else:
                kind = 2 if op.packed and tensor["name"] == op.packed["tensor"] else 0
                offset, data = 0, arrays[tensor["name"]].tobytes()
            parts += [struct.pack("<3q", kind, len(data), offset), data]
        program.stdin.write(b"".join(parts))
        program.stdin.flush()
        status, length = struct.unpack("<2q", read(16))
        text = read(length).decode()
        for tensor in op.outputs:
            guard = outputs[tensor["name"]]
            guard.bytes[:] = bytearray(read(guard.bytes.size))
        if status:
            raise library.LibraryError(status, text)
        return {n: g.array for n, g in outputs.items()}, all(g.is_intact() for g in outputs.values())

    profile.run_fenced = run
    return profile


def main():
    name, emulator, program = sys.argv[1:4]
    profile = connect(name, [emulator, "-L", "/usr/aarch64-linux-gnu", program])
    sys.argv[1:] = sys.argv[4:]
    return profile.main()


if __name__ == "__main__":
    sys.exit(main())
