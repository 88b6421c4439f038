"""Byte flips of good models: dlc may refuse or take them, but must not crash or hang.

    flips.py <folder> <dlc> [--count N] [--seed S] [--jobs J]

Mutation k of seed S is always the same: one of the models below, one to eight
changes (a bit flipped, a byte set, a byte inserted, a run removed or repeated).
Failing files stay in the folder as flip-S-K.onnx. Ends with one line of counts.
"""
import argparse
import concurrent.futures
import os
import random
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from hostile import FOPS, function, info, model, node
from refusals import run


def convolution():
    w = numpy_helper.from_array(np.ones((4, 3, 3, 3), "f4"), "w")
    return model([node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]), node("Relu", ["a"], ["b"], name="r"),
                  node("GlobalAveragePool", ["b"], ["y"], name="p")], [info("x", ["n", 3, 8, 8])], initializers=[w])


def shapes():
    t = [numpy_helper.from_array(np.array(v, "i8"), n) for n, v in (("zero", 0), ("minus", [-1]), ("starts", [1]), ("ends", [3]))]
    return model([node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["g"]), node("Unsqueeze", ["g", "starts0"], ["u"]),
                  node("Concat", ["u", "minus"], ["c"], axis=0), node("Reshape", ["x", "c"], ["r"]),
                  node("Slice", ["r", "starts", "ends"], ["l"]), node("Transpose", ["l"], ["y"], perm=[1, 0])],
                 [info("x", ["n", 2, 3])], initializers=t + [numpy_helper.from_array(np.array([0], "i8"), "starts0")])


def control_flow():
    body = helper.make_graph([node("Identity", ["c"], ["c2"]), node("Relu", ["v"], ["v2"])], "body",
                             [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("v", [2, 3])],
                             [info("c2", [], TensorProto.BOOL), info("v2", [2, 3])])
    a = helper.make_graph([node("F", ["x"], ["p"], domain="f")], "a", [], [info("p", [2, 3])])
    b = helper.make_graph([node("Neg", ["x"], ["q"])], "b", [], [info("q", [2, 3])])
    m = numpy_helper.from_array(np.array(3, "i8"), "m")
    return model([node("If", ["k"], ["h"], then_branch=a, else_branch=b), node("Loop", ["m", "", "h"], ["y"], body=body)],
                 [info("k", [], TensorProto.BOOL), info("x", [2, 3])], initializers=[m], opsets=FOPS,
                 functions=[function("F", [node("Relu", ["a"], ["b"])])])


def quantized():
    w = TensorProto(name="w", data_type=TensorProto.INT4, raw_data=bytes(range(8)))
    w.dims.extend([4, 4])
    s = numpy_helper.from_array(np.full((2, 4), 0.5, "f4"), "s")
    return model([node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=2), node("MatMul", ["x", "f"], ["h"]),
                  node("Cast", ["h"], ["e"], to=TensorProto.FLOAT8E4M3FN), node("Cast", ["e"], ["t"], to=TensorProto.FLOAT),
                  node("LayerNormalization", ["t", "g"], ["n"]), node("TopK", ["n", "k"], ["y", "i"], axis=1)],
                 [info("x", ["n", 4])], [info("y", None), info("i", None, TensorProto.INT64)], opset=23,
                 initializers=[w, s, numpy_helper.from_array(np.ones(4, "f4"), "g"), numpy_helper.from_array(np.array([2], "i8"), "k")])


def recurrent():
    t = [numpy_helper.from_array(np.full(shape, 0.1, "f4"), n) for n, shape in (("w", (1, 8, 3)), ("r", (1, 8, 2)))]
    return model([node("LSTM", ["x", "w", "r"], ["y", "", ""], hidden_size=2, activations=["Sigmoid", "Tanh", "Tanh"])],
                 [info("x", [3, 1, 3])], initializers=t)


BASES = [m().SerializeToString() for m in (convolution, shapes, control_flow, quantized, recurrent)]


def mutate(seed, number):
    r = random.Random(f"{seed}:{number}")
    data = bytearray(r.choice(BASES))
    for _ in range(r.choice((1, 1, 1, 2, 4, 8))):
        at, kind = r.randrange(len(data)), r.randrange(8)
        if kind < 4:
            data[at] ^= 1 << r.randrange(8)
        elif kind == 4:
            data[at] = r.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 5:
            data.insert(at, r.randrange(256))
        elif kind == 6:
            del data[at:at + r.randrange(1, 9)]
        else:
            data[at:at] = data[at:at + r.randrange(1, 33)]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("dlc")
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--first", type=int, default=0, help="number of the first mutation")
    p.add_argument("--jobs", type=int, default=2)
    args = p.parse_args()
    os.makedirs(args.folder, exist_ok=True)

    def check(number):
        path = os.path.join(args.folder, f"flip-{args.seed}-{number}.onnx")
        with open(path, "wb") as file:
            file.write(mutate(args.seed, number))
        # Two of three stop at the graph, the third goes on to scheduled kernels.
        code, said = run(args.dlc, path, ["-emit=kernels" if number % 3 == 0 else "-emit=graph", "-o", "-", "-q"])
        if code in (0, 1, 3) and "Sanitizer" not in said and "runtime error" not in said:
            os.remove(path)
            return code, ""
        return code, f"flip {number} of seed {args.seed}: exit {code}: {said.strip()[-2000:]}"

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(check, range(args.first, args.first + args.count)))
    failures = [why for _, why in results if why]
    print("\n".join(failures))
    taken = sum(code == 0 for code, _ in results)
    print(f"{len(results)} mutations: {taken} taken, {len(results) - taken - len(failures)} refused, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
