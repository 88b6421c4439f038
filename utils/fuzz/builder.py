"""Builds random models whose values are known while they are built.

Every node is evaluated in float64 as it is added, and once more with rounding's movements (evaluate.py). A node whose values
leave the range, that is not finite or that magnifies rounding too much is not taken; so every graph is well-conditioned, and a
correct compiler agrees with the evaluation whatever it fuses. Comparisons, rounding to integers and arguments of maxima are only
made of exact tensors (inputs, and what moves or selects them), because elsewhere rounding decides them.

With symbolic sizes each tensor has two values, for two sets of sizes: a dim is symbolic where they differ, and a node that does
not work for both is not taken. The names of all files and values follow from the seed."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import evaluate
from evaluate import Context, Value, from_numpy, run_node

OPSET = 23
# Results that rounding may decide: only of exact tensors.
DECIDES = {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "ArgMax", "ArgMin", "Floor", "Ceil", "Round", "Sign", "Mod"}
# Exact for floats, when their operands are.
EXACT = DECIDES | {"Abs", "Neg", "Relu", "Max", "Min", "Clip", "Where", "Identity", "ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool"}


class Tensor:
    """A value of the model being built: `arrays`, one a set of sizes; `sample`, the first with rounding's movements."""

    def __init__(self, name, values, sample, exact):
        self.name, self.values, self.sample, self.exact = name, values, sample, exact
        self.shape, self.type = tuple(values[0].array.shape), values[0].type
        self.symbolic = tuple(len({v.array.shape[i] for v in values}) > 1 for i in range(len(self.shape)))

    @property
    def rank(self):
        return len(self.shape)

    @property
    def size(self):
        return int(np.prod(self.shape))


class Builder:
    """dims: {name: (size, other size)}; names stand for sizes in `input`. ops: how many nodes are wanted."""

    def __init__(self, seed, ops, type=TensorProto.FLOAT, dims=None, symbolic=False, limit=8.0, largest=1 << 14):
        self.rng = np.random.default_rng(seed)
        self.ops, self.type, self.symbolic, self.limit, self.largest = ops, type, symbolic, limit, largest
        self.dims = dims or {}
        self.sets = 2 if symbolic else 1
        self.moves = Context(np.random.default_rng([seed, 1]))
        self.nodes, self.weights, self.inputs, self.tensors = [], {}, [], {}
        self.feeds = [{} for _ in range(self.sets)]
        self.users, self.kept, self.pool = {}, [], []
        self.refused = 0
        # Movements past this are rounding magnified: of float32 a thousandth of what a wrong answer would be.
        self.spread = {TensorProto.FLOAT: 2.0**-16, TensorProto.DOUBLE: 2.0**-44, TensorProto.FLOAT16: 2.0**-7, TensorProto.BFLOAT16: 2.0**-4}

    # ------------------------------------------------------------------------------------------ leaves
    def random(self, shape, type, low=-1.0, high=1.0):
        """An array as the model's inputs hold it."""
        dtype = helper.tensor_dtype_to_np_dtype(type)
        if dtype == np.bool_:
            return self.rng.random(shape) < 0.5
        if type in evaluate.UNIT:
            return self.rng.uniform(low, high, shape).astype(dtype)
        return self.rng.integers(int(low), int(high) + 1, shape).astype(dtype)

    def input(self, shape, type=None, low=-1.0, high=1.0):
        """A graph input; sizes are ints or names of dims."""
        type, name = type or self.type, f"x{len(self.inputs)}"
        arrays = []
        for number in range(self.sets):
            sizes = [self.dims[n][number] if isinstance(n, str) else n for n in shape]
            arrays.append(self.random(sizes, type, low, high))
            self.feeds[number][name] = arrays[-1]
        named = lambda n: self.symbolic and self.dims[n][0] != self.dims[n][1]
        declared = [n if not isinstance(n, str) else n if named(n) else self.dims[n][0] for n in shape]
        self.inputs.append(helper.make_tensor_value_info(name, type, declared))
        return self._define(name, [from_numpy(a, type) for a in arrays], None, True, isLeaf=True)

    def weight(self, array, type=None):
        """An initializer; equal arrays share one."""
        array = np.asarray(array)
        if type is not None and type in evaluate.UNIT:
            array = array.astype(helper.tensor_dtype_to_np_dtype(type))
        key = (array.tobytes(), array.shape, str(array.dtype))
        if key not in self.weights:
            proto = numpy_helper.from_array(array, f"w{len(self.weights)}")
            value = from_numpy(array, proto.data_type)
            self.weights[key] = (proto, Tensor(proto.name, [value] * self.sets, value, True))
        return self.weights[key][1]

    def scalar(self, number, type=None):
        return self.weight(np.asarray(number), type or self.type)

    def ints(self, *numbers):
        return self.weight(np.array(numbers, np.int64))

    def parameter(self, shape, low=-1.0, high=1.0, type=None):
        """A random initializer."""
        return self.weight(self.random(shape, type or self.type, low, high))

    # ------------------------------------------------------------------------------------------ nodes
    def add(self, op, *inputs, **attributes):
        """The result of a new node, or None when the node is refused or an input is None."""
        results = self.add_many(op, 1, *inputs, **attributes)
        return results and results[0]

    def add_many(self, op, outputs, *inputs, **attributes):
        if any(x is None for x in inputs):
            return None
        inputs = [None if x == "" else self.scalar(x, inputs[0].type) if isinstance(x, (int, float)) else x for x in inputs]
        number = len(self.nodes)
        names = [f"t{number}"] if outputs == 1 else [f"t{number}_{i}" for i in range(outputs)]
        node = helper.make_node(op, [x.name if x else "" for x in inputs], names, name=f"n{number}_{op}", **attributes)
        exact = all(x is None or x.exact for x in inputs)
        if op in DECIDES and not exact and any(x is not None and x.type in evaluate.UNIT for x in inputs):
            return self._refuse()
        try:
            values = [run_node(Context(), node, [x.values[k] if x else None for x in inputs], OPSET) for k in range(self.sets)]
            samples = run_node(self.moves, node, [x.sample if x else None for x in inputs], OPSET)
        except (ValueError, IndexError, TypeError):
            return self._refuse()
        if not all(self._is_good(values[0][i], samples[i], [v[i] for v in values]) for i in range(outputs)):
            return self._refuse()
        self.nodes.append(node)
        for x in inputs:
            if x is not None:
                self.users[x.name] = self.users.get(x.name, 0) + 1
        moves = op in EXACT or op in evaluate.operators.MOVES or values[0][0].type not in evaluate.UNIT
        return [self._define(names[i], [v[i] for v in values], samples[i], exact and moves) for i in range(outputs)]

    def _refuse(self):
        self.refused += 1
        if self.refused > 200 * (self.ops + 100):
            raise RuntimeError("the family finds no more nodes")
        return None

    def _is_good(self, value, sample, values):
        for v in values:
            a = v.array
            if a.size == 0 or a.size > self.largest:
                return False
            if v.is_float and not (np.all(np.isfinite(a)) and np.abs(a).max() <= self.limit):
                return False
        if not value.is_float:
            return True
        spread = np.abs(sample.array - value.array).max()
        return spread <= self.spread[value.type] * max(0.25, np.abs(value.array).max())

    def _define(self, name, values, sample, exact, isLeaf=False):
        tensor = Tensor(name, values, sample if sample is not None else values[0], exact)
        self.tensors[name] = tensor
        self.pool.append(tensor)
        return tensor

    @property
    def is_full(self):
        return len(self.nodes) >= self.ops

    def keep(self, tensor):
        """Makes a value an output of the model although others read it."""
        if tensor is not None and tensor not in self.kept and len(self.kept) < 6 and tensor.name.startswith("t"):
            self.kept.append(tensor)
        return tensor

    def pick(self, where=lambda t: True, window=40):
        """A tensor that satisfies `where`: one without a reader, a recent one or an input; None if there is none."""
        pools = [[t for t in self.pool if t.name not in self.users], self.pool[-window:], self.pool]
        order = [0, 1, 2] if self.rng.random() < 0.6 else [1, 0, 2] if self.rng.random() < 0.8 else [2]
        for index in order:
            found = [t for t in pools[index][-200:] if where(t)]
            if found:
                return found[int(self.rng.integers(len(found)))]
        return None

    def choice(self, items):
        items = list(items)
        return items[int(self.rng.integers(len(items)))]

    # ------------------------------------------------------------------------------------------ shapes
    def reshape(self, t, sizes):
        """sizes: [(size, isSymbolic, axis of t it is, or None)]; None when more than one size would have to be guessed."""
        target, guessed = [], 0
        for position, (size, symbolic, axis) in enumerate(sizes):
            if not symbolic:
                target.append(size)
            elif axis == position:
                target.append(0)
            else:
                target.append(-1)
                guessed += 1
        return self.add("Reshape", t, self.ints(*target)) if guessed <= 1 else None

    def axes(self, t):
        return [(n, s, i) for i, (n, s) in enumerate(zip(t.shape, t.symbolic))]

    def merge(self, t, first, last):
        """Axes first..last-1 become one."""
        dims = self.axes(t)
        size = int(np.prod(t.shape[first:last]))
        return self.reshape(t, dims[:first] + [(size, any(t.symbolic[first:last]), None)] + dims[last:])

    def split(self, t, axis, factor):
        """An axis becomes (factor, size / factor)."""
        if t.symbolic[axis] or t.shape[axis] % factor:
            return None
        dims = self.axes(t)
        return self.reshape(t, dims[:axis] + [(factor, False, None), (t.shape[axis] // factor, False, None)] + dims[axis + 1 :])

    def broadcasts(self, *tensors):
        """True when the tensors broadcast for every set of sizes."""
        try:
            for k in range(self.sets):
                np.broadcast_shapes(*[t.values[k].array.shape for t in tensors])
        except ValueError:
            return False
        return True

    # ------------------------------------------------------------------------------------------ the model
    def finish(self, name, outputs=8):
        """The model: values without a reader become outputs, many of them joined first so that nothing is dead."""
        def leaves():
            return [t for t in self.pool if t.name not in self.users and t.name.startswith("t")]

        tries = 0
        while len(leaves()) > outputs and tries < 1000:
            tries += 1
            rest = leaves()
            a = rest[int(self.rng.integers(len(rest)))]
            if a.type == TensorProto.BOOL:
                a = self.add("Cast", a, to=self.type) or a
            partners = [t for t in rest if t is not a and t.type == a.type and self.broadcasts(a, t)]
            joined = self.add(self.choice(["Add", "Max", "Min", "Sub"]), a, self.choice(partners)) if partners else None
            if joined is None:  # out of range, or shapes of no kin
                self.add("ReduceMax", a, keepdims=0) if a.rank else self.add("Max", a, self.choice(partners)) if partners else None
        results = self.kept + [t for t in leaves() if t not in self.kept]
        infos = [helper.make_tensor_value_info(t.name, t.type, [None if s else n for n, s in zip(t.shape, t.symbolic)]) for t in results]
        used = {n for node in self.nodes for n in node.input}
        inputs = [i for i in self.inputs if i.name in used]
        graph = helper.make_graph(self.nodes, name, inputs, infos, [p for p, _ in self.weights.values() if p.name in used])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model)
        keep = {i.name for i in inputs}
        return model, [{n: a for n, a in feed.items() if n in keep} for feed in self.feeds]
