"""dlc: ONNX models compiled to native code.

    import dlc
    m = dlc.compile("model.onnx")                 # for this machine
    y, = m.run([x])                               # or m.run({"x": x}), or m(x)
    m.save("model.so"); m = dlc.load("model.so")

Arrays in: anything numpy, DLPack or the buffer protocol can show (torch tensors
too); bfloat16 and sub-byte values as ml_dtypes arrays. `run` returns numpy
arrays in graph-output order; a call returns the kind of array it was given.
"""

from .compiler import compile
from .errors import (CompileError, Diagnostic, Error, InternalError, RunError, TargetError, UnsupportedOpError,
                     VerifyError)
from .model import Model, load

__all__ = ["compile", "load", "Model", "Error", "CompileError", "UnsupportedOpError", "TargetError", "VerifyError",
           "RunError", "InternalError", "Diagnostic"]
