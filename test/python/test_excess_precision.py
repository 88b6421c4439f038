"""Roundings that stay inside an attention are left out (the laws excess and distribute(scale), docs/check.md): results are nearer to the truth, a
certificate says by which law, and Check refuses what the law does not say. Under -fp=strict every rounding stays."""
import math
import re
import subprocess

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dlc
from dlc.compiler import tool


def attention(path, dtype, causal=0, softmax_in=None, heads=2, rows=70, keys=90, width=32):
    """Attention of opset 23, or spelled with a Softmax of 16 bits, as exporters of half models write it."""
    kind = getattr(TensorProto, dtype)
    keys = rows if causal else keys
    io = [helper.make_tensor_value_info(n, kind, [1, heads, s, width]) for n, s in (("q", rows), ("k", keys), ("v", keys), ("y", rows))]
    if softmax_in is None:
        nodes = [helper.make_node("Attention", ["q", "k", "v"], ["y"], is_causal=causal)]
    else:
        scale = helper.make_tensor("c", kind, [], [width**-0.25])
        nodes = [helper.make_node("Mul", ["q", "c"], ["a"]), helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
                 helper.make_node("Mul", ["t", "c"], ["b"]), helper.make_node("MatMul", ["a", "b"], ["s"]),
                 helper.make_node("Softmax", ["s"], ["p"]), helper.make_node("MatMul", ["p", "v"], ["y"])]
    graph = helper.make_graph(nodes, "g", io[:3], io[3:], [] if softmax_in is None else [scale])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    return str(path)


def truth(q, k, v, causal):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def inputs(dtype, shapes, scale=2.0):
    rng = np.random.default_rng(5)
    return [(scale * rng.normal(size=s)).astype(np.float32).astype(dtype) for s in shapes]


@pytest.mark.parametrize("causal,spelled", [(0, False), (1, False), (0, True)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_results_are_nearer_to_the_truth(dtype, causal, spelled, tmp_path):
    element = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    path = attention(tmp_path / "m.onnx", dtype.upper(), causal, True if spelled else None)
    given = inputs(element, [(1, 2, 70, 32), *[(1, 2, 70 if causal else 90, 32)] * 2])
    wanted = truth(*given, causal)
    error = {}  # of a root mean square
    for name, options in (("reassoc", {}), ("strict", {"fp": "strict"}), ("interp", {"target": "interp"})):
        got, = dlc.compile(path, **options).run(given)
        error[name] = np.sqrt(np.mean((got.astype(np.float64) - wanted)**2))
    half = 2.0**-11 if dtype == "float16" else 2.0**-8
    assert error["strict"] > 1e-3 * half  # the judge: a model of 16 bits has an error
    assert error["reassoc"] <= 0.9 * error["strict"] and error["reassoc"] <= 0.9 * error["interp"], error


def fused(path, folder, *options):
    done = subprocess.run([tool("dlc"), path, "-o", str(folder / "m.so"), "-q", f"-dump-dir={folder / 'dump'}", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / "dump" / "02-fused.mlir").read_text()


def verdict(text, folder, *options):
    (folder / "forged.mlir").write_text(text)
    done = subprocess.run([tool("dlc-check"), str(folder / "forged.mlir"), *options], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["x86:cpu=x86-64-v3", "cuda"])
def test_certificates(target, tmp_path):
    """What the certificate claims is what is checked; each lie is refused."""
    path = attention(tmp_path / "m.onnx", "FLOAT16", softmax_in=True)
    text = fused(path, tmp_path, f"-target={target}")
    law = "excess(all)" if target != "cuda" else "excess(sums)"
    scale = '"distribute(scale)", ' if target == "cuda" else ""
    assert f'laws [{scale}"{law}"] obligation "precision"' in text, text[-3000:]
    assert verdict(text, tmp_path)[0] == 0
    other = "excess(sums)" if target != "cuda" else "excess(all)"
    kernel = re.search(r"graph\.kernel @fused_0.*?\n  }\n(?=  graph)", text, re.S).group()
    number = re.search(r"graph.literal (\d[\d.e-]+) : f32 : f32", kernel)
    assert number, kernel
    exponential = re.search(r"(%\d+) = graph.apply +exp\((%\d+)\) : \(f32\) -> f32", kernel)
    lies = {
        "another law": text.replace(law, other), "no law": text.replace(f'"{law}"', '"split(add)"'), "an obligation": text.replace('obligation "precision"', 'obligation "exact"'),
        "reassociation": text.replace('obligation "precision"', 'obligation "reassociation"'),
        "another number": text.replace(kernel, kernel.replace(number.group(1), "2.0e-01")),
        "one rounding more": text.replace(kernel, kernel.replace(
            exponential.group(), f"%lie = graph.scalar_cast {exponential.group(2)} : f32 -> f16\n      %wide = graph.scalar_cast %lie : f16 -> f32\n      "
            f"{exponential.group(1)} = graph.apply exp(%wide) : (f32) -> f32"))}
    if scale:
        lies["no law of scales"] = text.replace(scale, "")
    for name, lie in lies.items():
        assert lie != text, name
        code, said = verdict(lie, tmp_path)
        assert code == 4 and "REFUSE" in said, (name, code, said)
    code, said = verdict(text, tmp_path, "-fp=strict")
    assert code == 4 and "-fp=strict keeps every rounding" in said, said


def test_conversions_of_a_wide_model_stay(tmp_path):
    """Weights that a model of f32 rounds by itself are rounded; control: with the result in 16 bits they are not."""
    for result, law in (("FLOAT", False), ("FLOAT16", True)):
        kinds = {"q": TensorProto.FLOAT, "k": TensorProto.FLOAT, "v": TensorProto.FLOAT, "y": getattr(TensorProto, result)}
        io = [helper.make_tensor_value_info(n, kind, [2, 40, 32]) for n, kind in kinds.items()]
        nodes = [helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]), helper.make_node("MatMul", ["q", "t"], ["s"]),
                 helper.make_node("Softmax", ["s"], ["p"]), helper.make_node("Cast", ["p"], ["h"], to=TensorProto.FLOAT16),
                 helper.make_node("Cast", ["h"], ["w"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["w", "v"], ["z"]),
                 helper.make_node("Cast", ["z"], ["y"], to=kinds["y"])]
        onnx.save(helper.make_model(helper.make_graph(nodes, "g", io[:3], io[3:]), opset_imports=[helper.make_opsetid("", 23)], ir_version=10), tmp_path / "m.onnx")
        text = fused(str(tmp_path / "m.onnx"), tmp_path, "-target=x86:cpu=x86-64-v3")
        assert ("excess(all)" in text) == law


def test_strict_has_no_such_law(tmp_path):
    text = fused(attention(tmp_path / "m.onnx", "FLOAT16"), tmp_path, "-fp=strict")
    assert "excess" not in text and "distribute" not in text


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_factors_are_loads(dtype, tmp_path):
    """Scales stand behind the sum of products: queries and keys are multiplied as they lie."""
    path = attention(tmp_path / "m.onnx", dtype)
    done = subprocess.run([tool("dlc"), path, "-target=cuda", "-emit=kernels", "-o", "-", "-q"], capture_output=True, text=True)
    line = next(x for x in done.stdout.splitlines() if x.startswith("// graph.attention"))
    assert "computed" not in line, line
    assert "hom(softmax)" in done.stdout or "round(softmax)" in done.stdout


def product(path, dtype, activation):
    """f(x w + b) r with rounded weights, x of 50 rows."""
    kind = getattr(TensorProto, dtype)
    element = np.float16 if dtype == "FLOAT16" else ml_dtypes.bfloat16
    rng = np.random.default_rng(3)
    w, b, r = (rng.normal(0, s, n).astype(np.float32).astype(element) for s, n in ((0.2, (64, 40)), (1, 40), (1, 40)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Add", ["s", "b"], ["t"]), helper.make_node(activation, ["t"], ["u"]),
             helper.make_node("Mul", ["u", "r"], ["y"])]
    io = [helper.make_tensor_value_info(n, kind, shape) for n, shape in (("x", [50, 64]), ("y", [50, 40]))]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in (("w", w), ("b", b), ("r", r))]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    function = {"Relu": lambda s: np.maximum(s, 0), "Erf": np.vectorize(math.erf)}[activation]
    return str(path), element, lambda x: function(x.astype(np.float64) @ w.astype(np.float64) + b.astype(np.float64)) * r.astype(np.float64)


@pytest.mark.parametrize("activation", ["Relu", "Erf"])
@pytest.mark.parametrize("dtype", ["FLOAT16", "BFLOAT16"])
def test_what_follows_a_product(dtype, activation, tmp_path):
    """On CPUs a bias, an activation and what else is computed with a sum see it as f32; the result is rounded once, by a law that the certificate names."""
    path, element, wanted = product(tmp_path / "m.onnx", dtype, activation)
    given, = inputs(element, [(50, 64)])
    error = {}
    for name, options in (("reassoc", {}), ("strict", {"fp": "strict"})):
        got, = dlc.compile(path, **options).run([given])
        error[name] = np.sqrt(np.mean((got.astype(np.float64) - wanted(given))**2))
    assert error["reassoc"] <= 0.8 * error["strict"], error
    text = fused(path, tmp_path)
    assert re.search(r'"excess\((all|sums)\)"', text)
    kernel = text[text.index("graph.kernel @fused_0("):]
    assert not re.search(r"graph.apply .* -> b?f16", kernel[:kernel.index("\n  }\n}") if "\n  }\n}" in kernel else kernel.index("graph.return")])
    assert verdict(text, tmp_path)[0] == 0
    code, said = verdict(re.sub(r'"excess\((all|sums)\)"', "", text), tmp_path)  # without the law the kernel is another one
    assert code == 4, said
    assert "excess" not in fused(path, tmp_path, "-fp=strict")
