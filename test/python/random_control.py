"""Random models of nested If, Loop and Scan: tensors of one shape, names of every scope around, conditions and counts
from the data. Values stay in [-1, 1], and conditions compare sums with numbers that are not close to any, so that
rounding decides nothing."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
SHAPE = ["n", 3]


class Builder:
    def __init__(self, seed):
        self.rng, self.count = np.random.default_rng(seed), 0

    def name(self, stem):
        self.count += 1
        return f"{stem}{self.count}"

    def pick(self, values):
        return values[self.rng.integers(len(values))]

    def const(self, nodes, value):
        out = self.name("c")
        nodes.append(helper.make_node("Constant", [], [out], value=numpy_helper.from_array(np.asarray(value))))
        return out

    def op(self, nodes, kind, inputs, **attributes):
        out = self.name(kind.lower())
        nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def condition(self, nodes, x):
        """A bool that the data tell."""
        total = self.op(nodes, "ReduceSum", [x], keepdims=0)
        return self.op(nodes, self.pick(["Less", "Greater"]), [total, self.const(nodes, np.float32(self.rng.uniform(-3, 3)))])

    def step(self, nodes, scope, depth):
        """One more tensor of SHAPE in `scope`."""
        kind = self.rng.integers(6 if depth else 3)
        x, y = self.pick(scope), self.pick(scope)
        if kind == 0:
            out = self.op(nodes, "Tanh", [self.op(nodes, self.pick(["Add", "Sub", "Mul"]), [x, y])])
        elif kind == 1:
            out = self.op(nodes, self.pick(["Neg", "Sin", "Identity"]), [x])
        elif kind == 2:
            out = self.op(nodes, self.pick(["Max", "Min"]), [x, y])
        elif kind == 3:
            out = self.branch(nodes, scope, depth)
        elif kind == 4:
            out = self.loop(nodes, scope, depth)
        else:
            out = self.scan(nodes, scope, depth)
        scope.append(out)

    def body(self, scope, depth, length):
        nodes, inner = [], list(scope)
        for _ in range(length):
            self.step(nodes, inner, depth - 1)
        return nodes, inner

    def branch(self, nodes, scope, depth):
        graphs = {}
        for key in ("then_branch", "else_branch"):
            inside, inner = self.body(scope, depth, int(self.rng.integers(0, 3)))
            result = self.op(inside, "Identity", [inner[-1]])
            graphs[key] = helper.make_graph(inside, key, [], [helper.make_tensor_value_info(result, FLOAT, SHAPE)])
        return self.op(nodes, "If", [self.condition(nodes, self.pick(scope))], **graphs)

    def loop(self, nodes, scope, depth):
        """Two carried tensors, one stack that is added up afterwards; ends by count, by data, or both."""
        i, going, a, b = (self.name(s) for s in ("i", "going", "a", "b"))
        inside, inner = self.body(scope + [a, b], depth, int(self.rng.integers(1, 4)))
        more = self.condition(inside, inner[-1]) if self.rng.random() < 0.5 else self.op(inside, "Identity", [going])
        outs = [more] + [self.op(inside, "Identity", [self.pick(inner)]) for _ in range(3)]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(inside, "body", [value(i, INT, []), value(going, BOOL, []), value(a, FLOAT, SHAPE), value(b, FLOAT, SHAPE)],
                                  [value(outs[0], BOOL, [])] + [value(o, FLOAT, SHAPE) for o in outs[1:]])
        stacks = self.rng.random() < 0.6
        # A stack needs a count that is known; without one, the input m is as good. (No iteration and a stack is
        # left out: onnxruntime takes its unknown dims for 0.)
        count = self.const(nodes, np.array(self.pick([1, 3, 40]))) if stacks else "m"
        start = self.condition(nodes, self.pick(scope)) if not stacks and self.rng.random() < 0.4 else self.const(nodes, np.array(True))
        if not stacks:
            del graph.output[3]
        results = [self.name("loop") for _ in range(3 if stacks else 2)]
        nodes.append(helper.make_node("Loop", [count, start, self.pick(scope), self.pick(scope)], results, body=graph))
        out = self.op(nodes, "Sub", results[:2])
        if stacks:
            total = self.op(nodes, "ReduceSum", [results[2], self.const(nodes, np.array([0]))], keepdims=0)
            out = self.op(nodes, "Add", [out, total])
        return self.op(nodes, "Tanh", [out])

    def scan(self, nodes, scope, depth):
        """Along the symbolic axis: a row is the state."""
        s, row = self.name("s"), self.name("row")
        inside = []
        new = self.op(inside, "Tanh", [self.op(inside, "Add", [s, row])])
        out = self.op(inside, "Mul", [new, row])
        value = helper.make_tensor_value_info
        graph = helper.make_graph(inside, "body", [value(s, FLOAT, [3]), value(row, FLOAT, [3])], [value(new, FLOAT, [3]), value(out, FLOAT, [3])])
        first = self.op(nodes, "ReduceMax", [self.pick(scope), self.const(nodes, np.array([0]))], keepdims=0)
        results = [self.name("scan"), self.name("scan")]
        nodes.append(helper.make_node("Scan", [first, self.pick(scope)], results, num_scan_inputs=1, body=graph))
        return self.op(nodes, "Tanh", [self.op(nodes, "Add", results[::-1])])


def make_model(seed):
    builder = Builder(seed)
    nodes, scope = [], ["x", "y"]
    for _ in range(int(builder.rng.integers(2, 6))):
        builder.step(nodes, scope, 3)
    value = helper.make_tensor_value_info
    outputs = [builder.op(nodes, "Identity", [scope[-1]]), builder.op(nodes, "Identity", [builder.pick(scope)])]
    graph = helper.make_graph(nodes, f"control{seed}", [value("x", FLOAT, SHAPE), value("y", FLOAT, SHAPE), value("m", INT, [])],
                              [value(o, FLOAT, SHAPE) for o in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def make_feed(rng, n, m):
    return {"x": rng.uniform(-1, 1, (n, 3)).astype(np.float32), "y": rng.uniform(-1, 1, (n, 3)).astype(np.float32), "m": np.array(m)}
