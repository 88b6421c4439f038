#!/usr/bin/env python3
"""Cases without their random numbers: small enough to travel to another machine, and equal numbers everywhere once they are filled.

    skeleton.py strip CASES OUT [NAME ...]    OUT/NAME.npz of each case (a folder with model.onnx and input_*.npy)
    skeleton.py fill FILE.npz FOLDER          FOLDER/model.onnx and FOLDER/input_*.npy

Of a constant or an input of floating point above 16 KiB only shape, mean and standard deviation are kept; its elements become normal
numbers from a seed that is its place's. All others stay as they are (indices, shapes, scales, variances of a batch normalization). So a
filled case is not the case it came from, but one of the same structure and sizes: its outputs are to be computed anew."""
import argparse
import io
import os

import ml_dtypes
import numpy as np

KEPT_BYTES = 16 << 10
BATCH = 1 << 16  # elements drawn at a time: the draws of a place do not depend on its size
FLOATS = {1: np.dtype(np.float32), 10: np.dtype(np.float16), 11: np.dtype(np.float64), 16: np.dtype(ml_dtypes.bfloat16)}  # TensorProto.DataType


def draw(shape, dtype, mean, deviation, low, high, seed):
    """Normal numbers, clipped to what the array held (a variance stays positive)."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(int(np.prod(shape)), np.float32) * np.float32(deviation) + np.float32(mean)
    return np.clip(values, low, high).astype(dtype).reshape(shape)


def describe(array):
    wide = array.astype(np.float64)
    return [float(wide.mean()), float(wide.std()), float(wide.min()), float(wide.max())]


def strip(cases, out, names):
    import onnx
    from onnx import numpy_helper

    os.makedirs(out, exist_ok=True)
    for name in names or sorted(os.listdir(cases)):
        folder, kept, drawn = os.path.join(cases, name), {}, []
        model = onnx.load(os.path.join(folder, "model.onnx"))
        for i, tensor in enumerate(model.graph.initializer):
            dtype = FLOATS.get(tensor.data_type)
            if not dtype or np.prod(tensor.dims) * dtype.itemsize <= KEPT_BYTES:
                continue
            array = numpy_helper.to_array(tensor)
            drawn.append([f"w{i}", *describe(array)])
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.ClearField("int32_data")
            tensor.ClearField("double_data")
        for i in range(len(model.graph.input)):
            path = os.path.join(folder, f"input_{i}.npy")
            if not os.path.exists(path):
                break
            array = np.load(path)
            kind = array.dtype.kind
            if kind in "fV" and array.nbytes > KEPT_BYTES:
                array = array.view(ml_dtypes.bfloat16) if kind == "V" else array
                dtype = "bfloat16" if kind == "V" else array.dtype.name
                drawn.append([f"i{i}", *describe(array), dtype, list(array.shape)])
            else:
                kept[f"i{i}"] = array
        np.savez_compressed(os.path.join(out, name + ".npz"), model=np.frombuffer(model.SerializeToString(), np.uint8),
                            drawn=np.array(repr(drawn)), **kept)
        print(name, os.path.getsize(os.path.join(out, name + ".npz")) >> 10, "KiB")


def fill(path, folder):
    import ast

    import onnx

    os.makedirs(folder, exist_ok=True)
    stored = np.load(path)
    model = onnx.load(io.BytesIO(stored["model"].tobytes()))
    inputs = {key: stored[key] for key in stored.files if key.startswith("i")}
    for seed, (place, mean, deviation, low, high, *more) in enumerate(ast.literal_eval(str(stored["drawn"]))):
        if place.startswith("w"):
            tensor = model.graph.initializer[int(place[1:])]
            tensor.raw_data = draw(tuple(tensor.dims), FLOATS[tensor.data_type], mean, deviation, low, high, seed).tobytes()
        else:
            dtype = ml_dtypes.bfloat16 if more[0] == "bfloat16" else more[0]
            inputs[place] = draw(tuple(more[1]), dtype, mean, deviation, low, high, seed)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for place, array in inputs.items():
        np.save(os.path.join(folder, f"input_{place[1:]}.npy"), array)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["strip", "fill"])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if arguments.do == "strip":
        strip(arguments.source, arguments.target, arguments.names)
    else:
        fill(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
