#!/usr/bin/env python3
"""Writes the kernels that fused-bench compares, a file a case, into a folder.

    fused_cases.py folder"""
import os
import sys


def tensor(dims, element="f32"):
    return "tensor<" + "x".join(str(d) for d in dims) + f"x{element}>"


def stage(name, domain, lines, yields, reduce=(), fold=None):
    """`lines` are (value, tensor, its dims, results of the map) for loads, or text."""
    axes = len(domain) + len(reduce)
    dims = ", ".join(f"d{i}" for i in range(axes))
    coords = ", ".join(f"%at{i}" for i in range(axes))
    text = f"  %{name} = graph.stage domain<{', '.join(map(str, domain))}>"
    if fold:
        text += f" reduce<{', '.join(map(str, reduce))}> fold {fold}"
    text += f" : {tensor(domain)} {{\n  ^bb0({', '.join(f'%at{i}: index' for i in range(axes))}):\n"
    for line in lines:
        if isinstance(line, str):
            text += "    " + line + "\n"
            continue
        value, source, sizes, index = line
        text += (f"    %{value} = graph.load %{source}[affine_map<({dims}) -> ({index})>]({coords}) : {tensor(sizes)} -> f32\n")
    return text + f"    graph.yield %{yields} : f32\n  }}\n"


def apply(result, fn, *args):
    return f"%{result} = graph.apply {fn}({', '.join('%' + a for a in args)}) : ({', '.join('f32' for _ in args)}) -> f32"


def literal(result, value):
    return f"%{result} = graph.literal {value:.9e} : f32 : f32"


def kernel(name, operands, stages, results):
    types = [tensor(d) for _, d in results]
    return (f"graph.kernel @{name}({', '.join(f'%{n}: {tensor(d)}' for n, d in operands)}) -> ({', '.join(types)}) "
            f"attributes {{symbols = []}} {{\n{''.join(stages)}  graph.return {', '.join('%' + n for n, _ in results)} : "
            f"{', '.join(types)}\n}}\n")


def case(members):
    """Members are (name, operands, stage text, dims): one fused kernel that returns the last, and the parts."""
    made = {name for name, *_ in members}
    operands = []
    for _, uses, _, _ in members:
        operands += [use for use in uses if use[0] not in made and use not in operands]
    last = members[-1]
    text = kernel("fused", operands, [m[2] for m in members], [(last[0], last[3])])
    for name, uses, body, dims in members:
        text += kernel("part_" + name, uses, [body], [(name, dims)])
    return text


def softmax(m, n):
    x, r = [m, n], [m, 1]
    return case([
        ("m", [("x", x)], stage("m", r, [("v", "x", x, "d0, d2")], "v", [n], "max"), r),
        ("e", [("x", x), ("m", r)], stage("e", x, [("v", "x", x, "d0, d1"), ("w", "m", r, "d0, 0"), apply("d", "sub", "v", "w"), apply("f", "exp", "d")], "f"), x),
        ("s", [("e", x)], stage("s", r, [("v", "e", x, "d0, d2")], "v", [n], "add"), r),
        ("y", [("e", x), ("s", r)], stage("y", x, [("v", "e", x, "d0, d1"), ("w", "s", r, "d0, 0"), apply("d", "div", "v", "w")], "d"), x)])


def layernorm(m, n):
    x, r = [m, n], [m, 1]
    return case([
        ("s", [("x", x)], stage("s", r, [("v", "x", x, "d0, d2")], "v", [n], "add"), r),
        ("d", [("x", x), ("s", r)], stage("d", x, [("v", "x", x, "d0, d1"), ("w", "s", r, "d0, 0"), literal("n", 1 / n), apply("a", "mul", "w", "n"), apply("f", "sub", "v", "a")], "f"), x),
        ("q", [("d", x)], stage("q", r, [("v", "d", x, "d0, d2"), apply("p", "mul", "v", "v")], "p", [n], "add"), r),
        ("t", [("q", r)], stage("t", r, [("v", "q", r, "d0, d1"), literal("n", 1 / n), literal("e", 1e-5), apply("a", "mul", "v", "n"), apply("b", "add", "a", "e"), apply("f", "rsqrt", "b")], "f"), r),
        ("y", [("d", x), ("t", r), ("g", [n]), ("h", [n])], stage("y", x, [("v", "d", x, "d0, d1"), ("w", "t", r, "d0, 0"), ("g0", "g", [n], "d1"), ("b0", "h", [n], "d1"), apply("a", "mul", "v", "w"), apply("c", "mul", "a", "g0"), apply("f", "add", "c", "b0")], "f"), x)])


def siblings(m, n):
    x, r = [m, n], [m]
    s = stage("s", r, [("v", "x", x, "d0, d1")], "v", [n], "add")
    q = stage("q", r, [("v", "x", x, "d0, d1"), apply("p", "mul", "v", "v")], "p", [n], "add")
    o = [("x", x)]
    return kernel("fused", o, [s, q], [("s", r), ("q", r)]) + kernel("part_s", o, [s], [("s", r)]) + kernel("part_q", o, [q], [("q", r)])


GELU = [literal("h", 0.5), literal("i2", 0.70710678), literal("one", 1.0), apply("g1", "mul", "t", "i2"), apply("g2", "erf", "g1"),
        apply("g3", "add", "g2", "one"), apply("g4", "mul", "t", "h"), apply("g5", "mul", "g3", "g4")]


def gemm(m, n, k):
    s = stage("s", [m, n], [("x", "a", [m, k], "d0, d2"), ("w", "b", [k, n], "d2, d1"), apply("p", "mul", "x", "w")], "p", [k], "add")
    operands = [("a", [m, k]), ("b", [k, n])]
    y = stage("y", [m, n], [("v", "s", [m, n], "d0, d1"), ("c0", "c", [n], "d1"), apply("t", "add", "v", "c0")] + GELU, "g5")
    c = [("c", [n])]
    return (kernel("fused", operands + c, [s, y], [("y", [m, n])]) + kernel("part_s", operands, [s], [("s", [m, n])]) +
            kernel("part_y", [("s", [m, n])] + c, [y], [("y", [m, n])]))


def chain(m, n):
    x = [m, n]
    names = ["a", "b", "c", "d"]
    members, last = [], "x"
    for name in names:
        members.append((name, [(last, x), ("w", [n])], stage(name, x, [("v", last, x, "d0, d1"), ("u", "w", [n], "d1"), apply("p", "mul", "v", "u"), apply("q", "max", "p", "v")], "q"), x))
        last = name
    return case(members)


def conv(c, o, size):
    x, y = [c, size, size], [o, size, size]
    s = stage("s", y, [("v", "x", x, "d3, d1, d2"), ("f", "k", [o, c], "d0, d3"), apply("p", "mul", "v", "f")], "p", [c], "add")
    e = stage("y", y, [("v", "s", y, "d0, d1, d2"), ("b0", "b", [o], "d0"), ("r0", "r", y, "d0, d1, d2"), literal("z", 0.0), apply("t", "add", "v", "b0"), apply("u", "add", "t", "r0"), apply("q", "max", "u", "z")], "q")
    operands, more = [("x", x), ("k", [o, c])], [("b", [o]), ("r", y)]
    return (kernel("fused", operands + more, [s, e], [("y", y)]) + kernel("part_s", operands, [s], [("s", y)]) +
            kernel("part_y", [("s", y)] + more, [e], [("y", y)]))


CASES = {
    "softmax-512x1024": softmax(512, 1024), "softmax-4096x64": softmax(4096, 64), "softmax-1x1000000": softmax(1, 1000000),
    "softmax-4x1000000": softmax(4, 1000000), "softmax-16x1000000": softmax(16, 1000000),
    "layernorm-512x768": layernorm(512, 768), "layernorm-4096x64": layernorm(4096, 64),
    "siblings-512x4096": siblings(512, 4096), "gemm-gelu-512": gemm(512, 512, 512), "gemm-gelu-128x3072x768": gemm(128, 3072, 768),
    "chain-1024x1024": chain(1024, 1024), "conv1x1-64-256-56": conv(64, 256, 56),
}

for name, text in CASES.items():
    with open(os.path.join(sys.argv[1], name + ".mlir"), "w") as file:
        file.write(text)
