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

def tool(name):
    """Path of one of dlc's programs: beside the package, in the build tree, or on PATH."""
    here = pathlib.Path(__file__).resolve().parent
    for folder in (here / "bin", here.parent.parent / "bin"):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if not found:
        raise errors.ToolError(f"the program '{name}' was not found beside the package or on PATH")
    return found


def compile(model, target="host", *, dims=None, shapes=None, fp=None, precision=None, threads=0, output=None,
            options=(), **flags):
    """Compiles an ONNX model and loads the result.

    model: path of a .onnx file, the bytes of one, or an onnx.ModelProto.
    target: as on the command line: "host", "x86", "x86:cpu=x86-64-v3", "interp" (the reference interpreter) ...
    dims: {"batch": 4} binds a symbolic dim, {"batch": (1, 64, 8)} bounds it (min, max, typical).
    shapes: {"x": [1, 3, 224, 224]} fixes an input's shape.
    threads: workers of a run; 0: DLC_NUM_THREADS, else the CPUs of the process.
    output: keep the artifact at this path (default: a temporary folder that lives as long as the model).
    fp, precision, and any other keyword: the option of that name (`weights="embed"` is -weights=embed,
        `max_nodes=10` is -max-nodes=10, `verify=True` is -verify). `dlc -help` lists them.
    options: further command-line options as written there.

    A sequence among the inputs is a list of arrays when the model runs. Its length and shapes belong to the compiled model:
    shapes={"s": [2], "s#0": [3, 4], "s#1": [5]}; without, the model is compiled by its first run (a SequenceModel).

    Returns a Model. Raises a subclass of dlc.Error: RejectedError (its subclass UnsupportedOpError when nodes have no
    lowering), UsageError, IoError, VerifyError, ToolError or InternalError.

        m = dlc.compile("bert.onnx", dims={"batch": 1, "sequence": (1, 512, 128)})
        hidden, = m.run({"input_ids": ids, "attention_mask": mask})
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
    if not output and "emit" not in flags:
        command.append("-emit=shared,header,report")
    command += _shape_flags(dims, shapes)
    for name, value in dict(flags, fp=fp, precision=precision).items():
        option = "-" + name.replace("_", "-")
        if value is True:
            command.append(option)
        elif value is not None and value is not False:
            command.append(f"{option}={value}")
    _run(command + list(options))
    return Model(out, threads=threads, holder=holder, target=target)


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
    if code < 0:
        return errors.InternalError(f"the compiler was ended by signal {-code}: {message}", diagnostics)
    if code == 1 and any(d.kind == "unsupported" for d in diagnostics):
        return errors.UnsupportedOpError(message, diagnostics)
    return errors.BY_EXIT_CODE.get(code, errors.InternalError)(message, diagnostics)


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
