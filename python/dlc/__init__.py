"""dlc: ONNX models compiled to native code.

    import dlc
    m = dlc.compile("model.onnx")                 # for this machine
    y, = m.run([x])                               # or m.run({"x": x}), or m(x), or m(x=x)
    m.save("model.so"); m = dlc.load("model.so")

Arrays in: anything numpy, DLPack or the buffer protocol can show, torch tensors
too; bfloat16, float8, float6, float4, int4 and int2 as ml_dtypes arrays. `run`
returns numpy arrays in graph-output order; a call returns torch tensors when it
was given some.

    m.inputs, m.outputs    names, dtypes and shapes (symbols by name)
    m.info                 these, and symbols with their ranges, target, version, memory
    m.report               what the compiler did: stages, kernels, bytes, seconds

Errors are classes, one for each exit code of the program `dlc`: see help(dlc.errors).
`dlc.backend` is the same as an onnx backend (onnx.backend.base).
"""

from . import errors
from .compiler import compile
from .errors import (CompileError, Diagnostic, Error, InternalError, IoError, RejectedError, RunError, TargetError,
                     ToolError, UnsupportedOpError, UsageError, VerifyError)
from .model import Model, load

__all__ = ["compile", "load", "Model", "errors", "Error", "RejectedError", "UnsupportedOpError", "UsageError", "IoError",
           "VerifyError", "ToolError", "InternalError", "RunError", "Diagnostic", "CompileError", "TargetError"]
