#!/usr/bin/env python3
"""Seeded random graphs that a compiler has to get right, in families (families/*.py).

    graphs.py FAMILY SEED [--ops=N] [--symbolic] [--out=FOLDER]     writes model.onnx and its inputs as .npy
    graphs.py --list

The same arguments give the same model. `make` is the same for programs."""
import argparse
import dataclasses
import importlib
import os
import zlib

import numpy as np
import onnx

from builder import Builder

FAMILIES = ["mix", "transformer", "norms", "conv", "diamonds", "tangles", "reductions", "integers", "halves", "rows", "cut", "shared"]


@dataclasses.dataclass
class Case:
    """A model and what it is run on: `feeds`, one {name: array} a run (two of different sizes for a symbolic model)."""

    name: str
    model: onnx.ModelProto
    feeds: list

    @property
    def ops(self):
        return len(self.model.graph.node)


def make(family, seed, ops=1000, symbolic=False):
    """A Case of about `ops` nodes."""
    name = f"{family}_{seed}_{ops}" + ("_dyn" if symbolic else "")
    module = importlib.import_module(f"families.{family}")
    key = zlib.crc32(f"{family} {seed}".encode())
    if hasattr(module, "make"):
        return Case(name, *module.make(key, ops, symbolic))
    kind = module.TYPES[int(np.random.default_rng(key).integers(len(module.TYPES)))]
    b = Builder(key, min(ops, getattr(module, "MOST", ops)), type=kind, dims=module.DIMS, symbolic=symbolic,
                largest=getattr(module, "LARGEST", 1 << 14))
    module.build(b)
    return Case(name, *b.finish(name))


def save(array, path):
    """An array as .npy; bfloat16, which numpy has no name for, as two bytes."""
    np.save(path, array if array.dtype.kind != "V" else array.view("V2"))


def write(case, folder):
    """Writes model.onnx and the inputs of each run; the paths of the inputs, a list a run."""
    os.makedirs(folder, exist_ok=True)
    onnx.save(case.model, os.path.join(folder, "model.onnx"))
    runs = []
    for number, feed in enumerate(case.feeds):
        paths = []
        for i in case.model.graph.input:
            paths.append(os.path.join(folder, f"run{number}_{i.name}.npy"))
            save(feed[i.name], paths[-1])
        runs.append(paths)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", choices=FAMILIES)
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--ops", type=int, default=1000)
    parser.add_argument("--symbolic", action="store_true")
    parser.add_argument("--out")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(FAMILIES))
        return
    if arguments.seed is None:
        parser.error("a family and a seed, or --list")
    case = make(arguments.family, arguments.seed, arguments.ops, arguments.symbolic)
    folder = arguments.out or case.name
    write(case, folder)
    print(f"{case.ops} nodes, {len(case.model.graph.input)} inputs, {len(case.model.graph.output)} outputs in {folder}")


if __name__ == "__main__":
    main()
