"""compile(): runs the compiler in a process of its own, so that no LLVM enters this one."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from . import errors
from .model import InterpretedModel, Model, SequenceModel

# Exit codes of the program (see `dlc -help`).
_EXIT = {2: ValueError, 3: OSError, 4: errors.VerifyError, 5: errors.TargetError, 70: errors.InternalError}


def tool(name):
    """Path of one of dlc's programs: beside the package, in the build tree, or on PATH."""
    here = pathlib.Path(__file__).resolve().parent
    for folder in (here / "bin", here.parent.parent / "bin"):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if not found:
        raise errors.TargetError(f"the program '{name}' was not found beside the package or on PATH")
    return found


def compile(model, target="host", *, dims=None, shapes=None, fp=None, precision=None, threads=0, output=None,
            options=(), **flags):
    """Compiles an ONNX model and loads the result.

    model: path, or the bytes of a model, or an onnx.ModelProto.
    target: as on the command line: "host", "x86", "x86:cpu=x86-64-v3", "arm", "interp" (the reference interpreter) ...
    dims: {"batch": 4} binds a symbolic dim, {"batch": (1, 64, 8)} bounds it (min, max, typical).
    shapes: {"x": [1, 3, 224, 224]} fixes an input's shape.
    fp, precision, and any other keyword: the option of that name (`weights="embed"` is -weights=embed).
    options: further command-line options as written there.
    output: keep the artifact at this path (default: a temporary folder that lives as long as the model).

    A sequence among the inputs is a list of arrays when the model runs. Its length and shapes belong to the compiled model:
    shapes={"s": [2], "s#0": [3, 4], "s#1": [5]}; without, the model is compiled by its first run (a SequenceModel).

    Raises CompileError (its subclass UnsupportedOpError when nodes have no lowering), TargetError, VerifyError.
    """
    given = dict(dims=dims, fp=fp, precision=precision, threads=threads, output=output, options=options, **flags)
    try:
        return _compile(model, target, shapes=shapes, **given)
    except errors.UnsupportedOpError as e:
        waits = [re.search(r"input '(.*)': unsupported: is a sequence, and the number of its tensors is not told", d.message)
                 for d in e.diagnostics]
        if not waits or not all(waits):
            raise
    return SequenceModel([found[1] for found in waits], lambda more: _compile(model, target, shapes={**(shapes or {}), **more}, **given))


def _compile(model, target, *, dims, shapes, fp, precision, threads, output, options, **flags):
    holder = tempfile.TemporaryDirectory(prefix="dlc-")
    path = _as_file(model, holder.name)
    if target == "interp":
        return InterpretedModel(path, tool("dlc-run"), holder, _shape_flags(dims, shapes))
    out = os.fspath(output) if output else os.path.join(holder.name, "model.so")
    command = [tool("dlc"), path, f"-target={target}", "-o", out, "-q", "-diagnostics=json"]
    command += _shape_flags(dims, shapes)
    for name, value in dict(flags, fp=fp, precision=precision).items():
        if value is not None:
            command.append(f"-{name.replace('_', '-')}={value}")
    _run(command + list(options))
    return Model(out, threads=threads, holder=holder)


def _as_file(model, folder):
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    if isinstance(model, (bytes, bytearray, memoryview)):
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as f:
            f.write(model)
        return path
    return os.fspath(model)


def _shape_flags(dims, shapes):
    flags = []
    for name, value in (dims or {}).items():
        if isinstance(value, (tuple, list)):
            low, high, *typical = value
            flags.append(f"-dim={name}={low}..{high}" + (f"@{typical[0]}" if typical else ""))
        else:
            flags.append(f"-dim={name}={int(value)}")
    for name, shape in (shapes or {}).items():
        flags.append(f"-shape={name}:" + "x".join(str(int(n)) for n in shape))
    return flags


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode:
        raise _error(done.returncode, done.stderr)
    return done


def _error(code, text):
    """The exception for an exit code, with the diagnostics the program wrote as JSON."""
    diagnostics = _diagnostics(text)
    message = "\n".join(d.message for d in diagnostics) or text.strip() or f"the compiler ended with code {code}"
    if code == 1:
        unsupported = [d for d in diagnostics if d.kind == "unsupported"]
        if unsupported:
            return errors.UnsupportedOpError(message, diagnostics)
        return errors.CompileError(message, diagnostics)
    if code < 0:
        return errors.InternalError(f"the compiler was ended by signal {-code}: {message}")
    return _EXIT.get(code, errors.InternalError)(message)


def _diagnostics(text):
    known = {f for f in errors.Diagnostic.__dataclass_fields__}
    found = []
    for line in text.splitlines():
        line = line.strip()
        if not line.startswith(("{", "[")):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue
        items = value if isinstance(value, list) else value.get("diagnostics", [value])
        for d in items:
            if isinstance(d, dict) and "message" in d:
                found.append(errors.Diagnostic(**{k: v for k, v in d.items() if k in known}))
    return found
