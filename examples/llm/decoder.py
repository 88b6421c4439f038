"""A small decoder as an ONNX model, with seeded random weights: what exporters make of a Llama, without a download.

Inputs: input_ids, position_ids int64 [batch, seq], attention_mask int64 [batch, total] with total = past + seq, and for
each layer past.N.key and past.N.value float32 [batch, kv_heads, past, head_dim]. Outputs: logits float32 [batch, seq,
vocab], and present.N.key, present.N.value with the new rows behind the past ones.

With pages (`page` positions each) it is the same decoder over several sequences whose tokens lie one after the other:
input_ids int64 [tokens], the lengths and the table of com.microsoft.PagedAttention, and for each layer key_cache.N and
value_cache.N float32 [pages, page, kv_heads, head_dim]; outputs are logits [tokens, vocab] and these caches with the new rows.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class _Graph:
    def __init__(self, seed):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(seed)

    def constant(self, array, name=None):
        name = name or f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, name, *shape, gain=1.0):
        scale = gain / math.sqrt(shape[0])
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32), name)

    def op(self, kind, *inputs, outputs=None, **attributes):
        outputs = outputs or [f"{kind.lower()}{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def norm(self, x, eps, hidden, name):
        mean = self.op("ReduceMean", self.op("Mul", x, x), self.ints(-1), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, eps))
        return self.op("Mul", self.op("Div", x, root), self.constant((1 + 0.1 * self.random.standard_normal(hidden)).astype(np.float32), name))

    def feed_forward(self, x, eps, hidden, inner, branch, n):
        y = self.norm(x, eps, hidden, f"norm{n}b")
        gate, up = (self.op("MatMul", y, self.weight(f"{part}{n}", hidden, inner)) for part in ("gate", "up"))
        y = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        return self.op("Add", x, self.op("MatMul", y, self.weight(f"down{n}", inner, hidden, gain=branch)))


def make_decoder(layers=2, heads=4, kv_heads=2, head_dim=16, hidden=64, inner=128, vocab=96, seed=1, gain=3.0, branch=1.0, last=False, page=None,
                 positions=4096):
    """The model as a ModelProto. `gain` scales the logits: with more, the largest one stands out more. `branch` scales what a
    layer adds to its input: trained models add little in one layer. `last`: the logits are of the last token alone, [batch, 1, vocab].
    `page`: positions of a page; then the model has room for `positions` tokens of a sequence."""
    if page:
        return _make_paged(layers, heads, kv_heads, head_dim, hidden, inner, vocab, seed, gain, branch, page, positions)
    g = _Graph(seed)
    f32 = lambda *values: g.constant(np.array(values, np.float32).reshape([len(values)] if len(values) > 1 else []))
    eps, scale = f32(1e-5), f32(1 / math.sqrt(head_dim))

    def norm(x, name):
        return g.norm(x, eps, hidden, name)

    half = head_dim // 2
    frequencies = g.constant((10000.0 ** -(np.arange(half) / half)).astype(np.float32)[None, None, None])
    positions = g.op("Cast", g.op("Unsqueeze", "position_ids", g.ints(1, 3)), to=TensorProto.FLOAT)  # [b, 1, s, 1]
    angles = g.op("Mul", positions, frequencies)
    angles = g.op("Concat", angles, angles, axis=-1)
    cos, sin = g.op("Cos", angles), g.op("Sin", angles)

    def rotate(x):
        low, high = g.op("Split", x, outputs=[f"low{len(g.nodes)}", f"high{len(g.nodes)}"], axis=-1, num_outputs=2)
        turned = g.op("Concat", g.op("Neg", high), low, axis=-1)
        return g.op("Add", g.op("Mul", x, cos), g.op("Mul", turned, sin))

    # A key counts where it is not behind the query and the mask has a one.
    total = g.op("Shape", "attention_mask", start=1, end=2)
    zero = g.constant(np.array(0, np.int64))
    step = g.constant(np.array(1, np.int64))
    keys = g.op("Range", zero, g.op("Squeeze", total), step)
    causal = g.op("LessOrEqual", g.op("Unsqueeze", keys, g.ints(0, 1, 2)), g.op("Unsqueeze", "position_ids", g.ints(1, 3)))
    kept = g.op("And", causal, g.op("Cast", g.op("Unsqueeze", "attention_mask", g.ints(1, 2)), to=TensorProto.BOOL))
    bias = g.op("Where", kept, f32(0.0), f32(float(np.finfo(np.float32).min)))

    def heads_of(x, count):
        return g.op("Transpose", g.op("Reshape", x, g.ints(0, 0, count, head_dim)), perm=[0, 2, 1, 3])

    def repeat(x):  # the head of keys that each query head reads
        if heads == kv_heads:
            return x
        wide = g.op("Expand", g.op("Unsqueeze", x, g.ints(2)), g.ints(1, 1, heads // kv_heads, 1, 1))
        return g.op("Reshape", wide, g.ints(0, heads, -1, head_dim))

    x = g.op("Gather", g.weight("embed", vocab, hidden, gain=math.sqrt(vocab)), "input_ids")
    states = []
    for n in range(layers):
        y = norm(x, f"norm{n}")
        q = rotate(heads_of(g.op("MatMul", y, g.weight(f"q{n}", hidden, heads * head_dim)), heads))
        k = rotate(heads_of(g.op("MatMul", y, g.weight(f"k{n}", hidden, kv_heads * head_dim)), kv_heads))
        v = heads_of(g.op("MatMul", y, g.weight(f"v{n}", hidden, kv_heads * head_dim)), kv_heads)
        both = []
        for kind, new in (("key", k), ("value", v)):
            states.append((f"past.{n}.{kind}", f"present.{n}.{kind}"))
            both.append(repeat(g.op("Concat", states[-1][0], new, outputs=[states[-1][1]], axis=2)))
        scores = g.op("Mul", g.op("MatMul", q, g.op("Transpose", both[0], perm=[0, 1, 3, 2])), scale)
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        y = g.op("Transpose", g.op("MatMul", weights, both[1]), perm=[0, 2, 1, 3])
        y = g.op("Reshape", y, g.ints(0, 0, heads * head_dim))
        x = g.op("Add", x, g.op("MatMul", y, g.weight(f"o{n}", heads * head_dim, hidden, gain=branch)))
        x = g.feed_forward(x, eps, hidden, inner, branch, n)
    if last:
        x = g.op("Slice", x, g.ints(-1), g.ints(np.iinfo(np.int64).max), g.ints(1))
    logits = g.op("MatMul", g.op("Mul", norm(x, "norm"), f32(gain)), g.weight("head", hidden, vocab))
    g.op("Identity", logits, outputs=["logits"])

    value = helper.make_tensor_value_info
    ids = [value(name, TensorProto.INT64, ["batch", "seq"]) for name in ("input_ids", "position_ids")]
    inputs = ids + [value("attention_mask", TensorProto.INT64, ["batch", "total"])]
    inputs += [value(past, TensorProto.FLOAT, ["batch", kv_heads, "past", head_dim]) for past, _ in states]
    outputs = [value("logits", TensorProto.FLOAT, ["batch", 1 if last else "seq", vocab])]
    outputs += [value(present, TensorProto.FLOAT, ["batch", kv_heads, "total", head_dim]) for _, present in states]
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _make_paged(layers, heads, kv_heads, head_dim, hidden, inner, vocab, seed, gain, branch, page, positions):
    # Weights are drawn in the same order as above.
    g = _Graph(seed)
    eps = g.constant(np.array(1e-5, np.float32))
    half = head_dim // 2
    angles = np.outer(np.arange(positions), 10000.0 ** -(np.arange(half) / half)).astype(np.float32)
    cos, sin = g.constant(np.cos(angles)), g.constant(np.sin(angles))
    x = g.op("Gather", g.weight("embed", vocab, hidden, gain=math.sqrt(vocab)), "input_ids")
    states = []
    for n in range(layers):
        y = g.norm(x, eps, hidden, f"norm{n}")
        q, k, v = (g.op("MatMul", y, g.weight(f"{part}{n}", hidden, count * head_dim)) for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
        pools, after = [f"key_cache.{n}", f"value_cache.{n}"], [f"new_key_cache.{n}", f"new_value_cache.{n}"]
        states.append((pools, after))
        y = g.op("PagedAttention", q, k, v, *pools, "cumulative_sequence_length", "past_seqlens", "block_table", cos, sin, domain="com.microsoft",
                 outputs=[f"attention{n}", *after], num_heads=heads, kv_num_heads=kv_heads, do_rotary=1)[0]
        x = g.op("Add", x, g.op("MatMul", y, g.weight(f"o{n}", heads * head_dim, hidden, gain=branch)))
        x = g.feed_forward(x, eps, hidden, inner, branch, n)
    logits = g.op("MatMul", g.op("Mul", g.norm(x, eps, hidden, "norm"), g.constant(np.array(gain, np.float32))), g.weight("head", hidden, vocab))
    g.op("Identity", logits, outputs=["logits"])
    value = helper.make_tensor_value_info
    inputs = [value("input_ids", TensorProto.INT64, ["tokens"]), value("cumulative_sequence_length", TensorProto.INT32, ["ends"]),
              value("past_seqlens", TensorProto.INT32, ["sequences"]), value("block_table", TensorProto.INT32, ["sequences", "table_pages"])]
    pool = ["pages", page, kv_heads, head_dim]
    inputs += [value(name, TensorProto.FLOAT, pool) for before, _ in states for name in before]
    outputs = [value("logits", TensorProto.FLOAT, ["tokens", vocab])]
    outputs += [value(name, TensorProto.FLOAT, pool) for _, after in states for name in after]
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, g.weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    import sys

    onnx.save(make_decoder(), sys.argv[1] if len(sys.argv) > 1 else "decoder.onnx")
