"""The systems that conformance.py runs the backend suite against: what its docstring calls adapters."""
import os
import re
import subprocess
import tempfile


class Unsupported(Exception):
    pass


class DlcAdapter:
    """dlc.compile(path, target=...).run(list of arrays)"""

    name = "dlc"
    exotic_as_float32 = False
    unsupported_re = re.compile(r"unsupported|not supported|not implemented", re.I)

    def __init__(self, target):
        import dlc

        self.dlc, self.target = dlc, target
        self.unsupported = getattr(dlc, "UnsupportedOpError", Unsupported)

    def compile(self, path):
        try:
            return self.dlc.compile(path, target=self.target) if self.target else self.dlc.compile(path)
        except self.unsupported as e:
            raise Unsupported(str(e)) from e

    def run(self, compiled, inputs):
        try:
            return list(compiled.run(inputs))
        except self.unsupported as e:
            raise Unsupported(str(e)) from e


class OnnxRuntimeAdapter:
    """onnxruntime, CPU.  Types numpy has not are fed as constants and read back through a Cast to float32."""

    name = "onnxruntime"
    exotic_as_float32 = True
    unsupported_re = re.compile(r"NOT_IMPLEMENTED|Could not find an implementation|is not a registered function/op"
                                r"|under development and support for this is limited|not supported"
                                r"|No Op registered|Unsupported|not implemented", re.I)

    def __init__(self, target):
        import onnxruntime

        self.ort = onnxruntime

    def compile(self, path):
        return path

    def run(self, path, inputs):
        model, inputs = bake_exotic(path, inputs)
        so = self.ort.SessionOptions()
        so.log_severity_level = 4
        so.intra_op_num_threads = 1
        session = self.ort.InferenceSession(model, so, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs)))


class ReferenceAdapter:
    """onnx.reference, the executable specification (slow; float8/bfloat16 through ml_dtypes)"""

    name = "reference"
    exotic_as_float32 = False
    unsupported_re = re.compile(r"not implemented|unable to find an implementation|no implementation", re.I)

    def __init__(self, target):
        import onnx.reference

        self.ref = onnx.reference

    def compile(self, path):
        return self.ref.ReferenceEvaluator(path)

    def run(self, compiled, inputs):
        return compiled.run(None, dict(zip(compiled.input_names, inputs)))


class DlcExecAdapter:
    """The programs dlc and dlc-exec, where dlc's Python package is not (another machine's Python, say)"""

    name = "dlc-exec"
    exotic_as_float32 = False
    unsupported_re = DlcAdapter.unsupported_re

    def __init__(self, target):
        import ml_dtypes

        self.target, self.folder, self.number, self.bfloat16 = target, tempfile.TemporaryDirectory(), 0, ml_dtypes.bfloat16

    def call(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode < 0:
            os.kill(os.getpid(), -done.returncode)  # a crash is a crash
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.returncode}: {done.stderr.strip()[-500:]}")

    def compile(self, path):
        self.number += 1
        artifact = os.path.join(self.folder.name, f"{self.number}.so")
        self.call("dlc", path, "-o", artifact, "-q", *(["-target=" + self.target] if self.target else []))
        return artifact

    def run(self, artifact, inputs):
        import numpy as np

        for value in inputs:
            if not isinstance(value, np.ndarray) or value.dtype.kind in "OUS" or is_exotic(value) and value.dtype != self.bfloat16:
                raise Unsupported("not supported by .npy files of dlc-exec")
        names = [os.path.join(self.folder.name, f"in_{i}.npy") for i in range(len(inputs))]
        for name, value in zip(names, inputs):
            np.save(name, value)
        outputs = os.path.join(self.folder.name, f"out_{self.number}")
        self.call("dlc-exec", artifact, "-outputs=" + outputs, *(["-inputs=" + ",".join(names)] if names else []))
        got = [np.load(os.path.join(outputs, f"output_{i}.npy")) for i in range(len(os.listdir(outputs)))]
        return [value.view(self.bfloat16) if value.dtype.kind == "V" else value for value in got]


ADAPTERS = {a.name: a for a in (DlcAdapter, DlcExecAdapter, OnnxRuntimeAdapter, ReferenceAdapter)}


def is_exotic(value):
    """a numpy array of an ml_dtypes type"""
    return getattr(getattr(value, "dtype", None), "type", object).__module__.startswith("ml_dtypes")


def bake_exotic(path, inputs, always=False):
    """Rewrite a model for a system whose Python binding cannot pass ml_dtypes arrays: exotic inputs become
    initializers, exotic outputs get a Cast to float32.  -> (model bytes or path, remaining inputs)"""
    import onnx
    from onnx import TensorProto as T

    plain = {T.FLOAT, T.UINT8, T.INT8, T.UINT16, T.INT16, T.INT32, T.INT64, T.STRING, T.BOOL, T.FLOAT16, T.DOUBLE,
             T.UINT32, T.UINT64, T.COMPLEX64, T.COMPLEX128}
    model = onnx.load(path)
    graph = model.graph
    inits = {i.name for i in graph.initializer}
    feeds = [i for i in graph.input if i.name not in inits]
    keep, changed = [], False
    for info, value in zip(feeds, inputs):
        if is_exotic(value):
            tensor = onnx.numpy_helper.from_array(value, info.name)
            tensor.data_type = info.type.tensor_type.elem_type
            graph.initializer.append(tensor)
            graph.input.remove(info)
            changed = True
        else:
            keep.append(value)
    for out in graph.output:
        elem = out.type.tensor_type.elem_type
        if out.type.HasField("tensor_type") and elem not in plain and elem != 0:
            raw = out.name + "__exotic"
            for node in graph.node:
                for i, name in enumerate(node.output):
                    if name == out.name:
                        node.output[i] = raw
                for i, name in enumerate(node.input):
                    if name == out.name:
                        node.input[i] = raw
            graph.node.append(onnx.helper.make_node("Cast", [raw], [out.name], to=T.FLOAT))
            if not any(o.domain in ("", "ai.onnx") for o in model.opset_import):
                model.opset_import.append(onnx.helper.make_opsetid("", 21))
            out.type.tensor_type.elem_type = T.FLOAT
            changed = True
    return (model.SerializeToString() if changed or always else path), keep
