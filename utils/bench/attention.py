#!/usr/bin/env python3
"""What stands inside of attention's kernel costs: attention.py rope | pages [--threads 1] [--seconds 2]

Models of one attention that differ in one thing run in turns, each round in another order, on as many CPUs as threads. Printed: the plain one's median
milliseconds, and by variant the median over rounds of its time / the plain one's; A/A is the plain one, loaded a second time.
rope: queries turned inside by half-rotated and by interleaved pairs, tables constant. pages: keys and values in pages of 16
positions, in random order, which a table tells (plain: one piece); positions before heads, or heads before positions."""
import argparse
import math
import os
import statistics
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#        query heads, key heads, queries, keys, head size, causal
CASES = [(32, 32, 512, 512, 128, 1), (32, 8, 512, 512, 128, 1), (12, 12, 128, 128, 64, 0), (32, 32, 1, 2048, 128, 0), (32, 8, 1, 2048, 128, 0),
         (32, 2, 1, 2048, 128, 0)]
VARIANTS = {"rope": ["half-rotated", "interleaved"], "pages": ["pages of 16", "pages of 16 by heads"]}


def make_model(case, variant):
    heads, groups, queries, keys, width, causal = case
    page, by_heads = 16 if variant.startswith("pages") else 0, variant.endswith("heads")
    info = helper.make_tensor_value_info
    nodes, constants = [], []

    def node(op, *inputs, **attributes):
        nodes.append(helper.make_node(op, list(inputs), [f"t{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def constant(value):
        constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(constants)}"))
        return constants[-1].name

    cache = [keys // page, *([groups, page] if by_heads else [page, groups]), width] if page else [1, groups, keys, width]
    inputs = [info("q", TensorProto.FLOAT, [1, heads, queries, width]), info("k", TensorProto.FLOAT, cache), info("v", TensorProto.FLOAT, cache)]
    q, k, v = "q", "k", "v"
    angles = np.outer(np.arange(keys - queries, keys), 10000.0 ** (-np.arange(width // 2) * 2 / width)).astype(np.float32)
    if variant == "half-rotated":
        cos, sin = (constant(np.concatenate([f(angles)] * 2, 1)) for f in (np.cos, np.sin))
        nodes.append(helper.make_node("Split", ["q", constant(np.array([width // 2] * 2))], ["first", "second"], axis=-1))
        q = node("Add", node("Mul", q, cos), node("Mul", node("Concat", node("Neg", "second"), "first", axis=-1), sin))
    elif variant == "interleaved":
        q = node("RotaryEmbedding", q, *(constant(f(angles)[None]) for f in (np.cos, np.sin)), interleaved=1)
    if page:
        inputs.append(info("table", TensorProto.INT64, [1, keys // page]))
        shape = constant(np.array([1, keys, groups, width]))
        for i, x in enumerate((k, v)):
            x = node("Gather", x, "table", axis=0)
            x = node("Transpose", x, perm=[0, 1, 3, 2, 4]) if by_heads else x
            x = node("Transpose", node("Reshape", x, shape), perm=[0, 2, 1, 3])
            k, v = (x, v) if i == 0 else (k, x)
    if groups != heads:
        wide, flat = constant(np.array([1, groups, heads // groups, keys, width])), constant(np.array([1, heads, keys, width]))
        k, v = (node("Reshape", node("Expand", node("Unsqueeze", x, constant(np.array([2]))), wide), flat) for x in (k, v))
    s = node("Mul", node("MatMul", q, node("Transpose", k, perm=[0, 1, 3, 2])), constant(np.float32(1 / math.sqrt(width))))
    if causal:
        s = node("Add", s, constant(np.triu(np.full((queries, keys), -np.inf, np.float32), keys - queries + 1)))
    nodes.append(helper.make_node("MatMul", [node("Softmax", s, axis=-1), v], ["o"]))
    graph = helper.make_graph(nodes, "attention", inputs, [info("o", TensorProto.FLOAT, None)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=VARIANTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="of rounds for each case")
    arguments = parser.parse_args()
    os.environ["DLC_NUM_THREADS"] = str(arguments.threads)
    import dlc
    variants = VARIANTS[arguments.what]
    built = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(CASES):
            for name in ["plain", *variants]:
                path = os.path.join(folder, f"{i}{len(built)}.so")
                dlc.compile(make_model(case, name), target="x86").save(path)
                built[case, name] = path
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
        rng = np.random.default_rng(0)
        print("| heads, of keys, queries, keys, width | plain ms | " + " | ".join(variants) + " | A/A | rounds |")
        print("|---" * (len(variants) + 4) + "|")
        for case in CASES:
            heads, groups, queries, keys, width, _ = case
            q, k, v = (rng.standard_normal(s, dtype=np.float32) for s in [(heads, queries, width)] + [(groups, keys, width)] * 2)
            feeds = {"plain": {"q": q[None], "k": k[None], "v": v[None]}}
            for name in variants:
                feeds[name] = feeds["plain"]
                if name.startswith("pages"):
                    page = 16
                    table = rng.permutation(keys // page)
                    pools = [np.empty((keys // page, page, groups, width), np.float32) for _ in "kv"]
                    for pool, x in zip(pools, (k, v)):
                        pool[table] = np.moveaxis(x, 0, 1).reshape(pool.shape)
                    pools = [np.ascontiguousarray(pool.swapaxes(1, 2)) for pool in pools] if name.endswith("heads") else pools
                    feeds[name] = {"q": q[None], "k": pools[0], "v": pools[1], "table": table[None]}
            feeds["A/A"] = feeds["plain"]
            models = {name: dlc.load(built[case, "plain" if name == "A/A" else name]) for name in feeds}
            expected = models["plain"].run(feeds["plain"])[0]
            for name in variants if arguments.what == "pages" else ():
                assert np.abs(models[name].run(feeds[name])[0] - expected).max() < 1e-5, name
            times = {name: [] for name in models}
            order, end = list(models), time.perf_counter() + arguments.seconds
            while time.perf_counter() < end or len(times["plain"]) < 5:
                order = order[1:] + order[:1]
                for name in order:
                    start = time.perf_counter()
                    models[name].run(feeds[name])
                    times[name].append(time.perf_counter() - start)
            ratios = [statistics.median(a / b for a, b in zip(times[name], times["plain"])) for name in [*variants, "A/A"]]
            print(f"| {', '.join(map(str, case[:5]))}{' causal' if case[5] else ''} | {statistics.median(times['plain']) * 1e3:.3g} | "
                  + " | ".join(f"{r:.3f}" for r in ratios) + f" | {len(times['plain'])} |", flush=True)


if __name__ == "__main__":
    main()
