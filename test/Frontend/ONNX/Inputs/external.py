"""Writes model.onnx with its weight in weights.bin, at an odd multiple of its alignment: external.py <folder>."""
import os
import sys

import numpy as np
from onnx import TensorProto, helper

folder = sys.argv[1]
with open(os.path.join(folder, "weights.bin"), "wb") as file:
    file.write(b"\0" * 12 + np.arange(1000, dtype="f4").tobytes())
w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1000], data_location=TensorProto.EXTERNAL)
for key, value in (("location", "weights.bin"), ("offset", "12"), ("length", "4000")):
    w.external_data.add(key=key, value=value)
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1000]) for n in "xy")
graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 8
with open(os.path.join(folder, "model.onnx"), "wb") as file:
    file.write(model.SerializeToString())
