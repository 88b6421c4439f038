"""dlc as an ONNX backend (onnx.backend.base).

    import dlc.backend
    rep = dlc.backend.prepare(model)              # an onnx.ModelProto
    outputs = rep.run([x, y])                     # a named tuple of arrays, in graph-output order
    dlc.backend.run_node(node, [x])

    import onnx.backend.test
    backend_test = onnx.backend.test.BackendTest(dlc.backend, __name__)   # onnx's own tests; what is not supported skips
"""

import numpy as np
import onnx
import onnx.backend.base
import onnx.helper
import onnx.shape_inference
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from . import errors
from .compiler import compile as _compile
from .model import as_array


class NotSupported(errors.UnsupportedOpError, BackendIsNotSupposedToImplementIt):
    """UnsupportedOpError as onnx's test runner knows it: the test is skipped."""


class Rep(onnx.backend.base.BackendRep):
    """A prepared model. `model` is the dlc.Model."""

    def __init__(self, model):
        self.model = model
        self._type = onnx.backend.base.namedtupledict("Outputs", [o["name"] for o in model.outputs])

    def run(self, inputs, **kwargs):
        """inputs: arrays in graph-input order, one array, or {name: array}. Returns a named tuple of numpy arrays."""
        if not isinstance(inputs, (dict, list, tuple)):
            inputs = [inputs]
        return self._type(*self.model.run(inputs))


class Backend(onnx.backend.base.Backend):
    """prepare, run_model, run_node, supports_device; devices: "CPU"."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **kwargs):
        """Whether dlc compiles the model."""
        try:
            cls.prepare(model, device, **kwargs)
        except errors.RejectedError:
            return False
        return True

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        """Compiles `model` (ModelProto, bytes or path). kwargs: those of dlc.compile.

        Raises what dlc.compile raises; for an operator without a lowering NotSupported, which is both
        dlc.UnsupportedOpError and the test runner's reason to skip.
        """
        if not cls.supports_device(device):
            raise errors.ToolError(f"the device {device} is not supported; CPU is")
        try:
            return Rep(_compile(model, **kwargs))
        except errors.UnsupportedOpError as e:
            raise NotSupported(str(e), e.diagnostics) from None

    @classmethod
    def run_model(cls, model, inputs, device="CPU", **kwargs):
        """prepare(model).run(inputs)."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, opset_version=None, **kwargs):
        """Runs one node on `inputs` (arrays in the node's order; {name: array} too).

        outputs_info: [(dtype, shape)] of the outputs, where onnx's inference cannot tell their types.
        opset_version: of the default domain; the newest onnx knows by default.
        """
        super().run_node(node, inputs, device, **({"opset_version": opset_version} if opset_version else {}))
        names = [name for name in node.input if name]
        if not isinstance(inputs, dict):
            inputs = dict(zip(names, inputs))
        inputs = {name: as_array(value) for name, value in inputs.items()}
        model = _single_node_model(node, names, inputs, outputs_info, opset_version)
        return cls.run_model(model, inputs, device, **kwargs)

    @classmethod
    def supports_device(cls, device):
        """True for "CPU" and "CPU:0"."""
        return device.split(":")[0].upper() == "CPU"


def _single_node_model(node, names, inputs, outputs_info, opset_version):
    helper = onnx.helper

    def info(name, dtype, shape):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    values = [info(name, inputs[name].dtype, inputs[name].shape) for name in dict.fromkeys(names)]
    outputs = [name for name in node.output if name]
    if outputs_info:
        results = [info(name, dtype, shape) for name, (dtype, shape) in zip(outputs, outputs_info)]
    else:
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
    opset = helper.make_opsetid("", opset_version or onnx.defs.onnx_opset_version())
    opsets = [opset] if not node.domain or node.domain == "ai.onnx" else [opset, helper.make_opsetid(node.domain, 1)]
    graph = helper.make_graph([node], node.name or node.op_type, values, results)
    model = helper.make_model(graph, opset_imports=opsets)
    return model if outputs_info else onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
