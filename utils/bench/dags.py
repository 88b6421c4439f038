"""Random graphs of elementwise, broadcast, transpose, reshape, slice, concat, where and reduce operators (the group `dag`
of models.py), with their expected outputs from a float64 evaluation. What makes them fair is said in README.md."""
import numpy as np

OPSET = 18


def random_dag(n_ops, seed, base=(16, 64, 96), out=None):
    """Seeded DAG of elementwise / broadcast / injective / reduce ops with static shapes, all nodes live.
    Every value is computed in float64 and float32 while building; a node whose values leave [-8, 8], or that
    amplifies rounding past 1e-4, is not taken. So any correct compiler matches to small tolerances.
    Comparisons are made on graph inputs only: rounding never flips a branch."""
    import onnx
    from onnx import helper as H, numpy_helper as NH, TensorProto as TP

    rng = np.random.default_rng(seed)
    A, B, C = base
    shapes = [(A, B, C), (A, B, C), (A, B, C), (A, B, 1), (A, 1, C), (1, B, C), (1, 1, C), (A, 1, 1), (B, C), (C,), (B, 1)]
    nodes, inits, val, live, shape_of = [], [], {}, [], {}
    inputs, arrays, conds = [], [], []

    def put(name, v64, v32):
        val[name] = (v64, v32)
        shape_of[name] = v64.shape
        live.append(name)

    for i, s in enumerate(shapes[:9]):
        a = rng.uniform(-1, 1, s).astype(np.float32)
        inputs.append(H.make_tensor_value_info(f"x{i}", TP.FLOAT, s))
        arrays.append(a)
        put(f"x{i}", a.astype(np.float64), a)
    cnt = [0]

    def const(a):
        nm = f"c{len(inits)}"
        inits.append(NH.from_array(np.asarray(a), nm))
        return nm

    from scipy.special import erf as sp_erf
    un = {"Tanh": np.tanh, "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Relu": lambda x: np.maximum(x, 0), "Abs": np.abs, "Neg": lambda x: -x,
          "Exp": np.exp, "Erf": lambda x: sp_erf(x).astype(x.dtype), "Sin": np.sin, "Cos": np.cos, "Softplus": lambda x: np.log1p(np.exp(x)),
          "LeakyRelu": lambda x: np.where(x >= 0, x, x * x.dtype.type(0.01)),
          "HardSigmoid": lambda x: np.clip(x * x.dtype.type(0.2) + x.dtype.type(0.5), 0, 1)}
    bi = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum}
    red = {"ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min}

    def emit(op, ins, f, **attr):
        """adds a node if it is well conditioned; returns its name or None"""
        args = [val[i] for i in ins if i in val]
        with np.errstate(all="ignore"):
            v64, v32 = f(*[a[0] for a in args]), f(*[a[1] for a in args])
        if not np.all(np.isfinite(v64)) or v64.size == 0 or v64.size > 4 * A * B * C or np.abs(v64).max() > 8:
            return None
        if np.abs(v64 - v32).max() > 1e-4 * max(1.0, np.abs(v64).max()):
            return None
        nm = f"t{cnt[0]}"
        cnt[0] += 1
        nodes.append(H.make_node(op, ins, [nm], name=f"n{cnt[0]}", **attr))
        for i in ins:
            if i in live:
                live.remove(i)
        put(nm, v64, v32.astype(np.float32))
        return nm

    def pick():
        pool = live if live and rng.random() < 0.7 else list(val)
        return pool[int(rng.integers(len(pool)))]

    def bcast(a, b):
        try:
            return np.broadcast_shapes(shape_of[a], shape_of[b])
        except ValueError:
            return None

    full = (A, B, C)
    while len(nodes) < n_ops - 12:
        r = rng.random()
        a = pick()
        s = shape_of[a]
        if r < 0.30:
            op = list(un)[int(rng.integers(len(un)))]
            kw = {"alpha": 0.2, "beta": 0.5} if op == "HardSigmoid" else {"alpha": 0.01} if op == "LeakyRelu" else {}
            emit(op, [a], un[op], **kw)
        elif r < 0.68:
            op = list(bi)[int(rng.integers(len(bi)))]
            b = pick()
            if a != b and bcast(a, b) is not None:
                emit(op, [a, b], bi[op])
        elif r < 0.72:  # safe division: a / (1 + |b|)
            b = pick()
            if a != b and bcast(a, b) is not None:
                ab = emit("Abs", [b], np.abs)
                if ab:
                    den = emit("Add", [ab, const(np.float32(1))], lambda x: x + x.dtype.type(1))
                    if den:
                        emit("Div", [a, den], np.divide)
        elif r < 0.75:
            c0, c1 = np.float32(rng.uniform(0.2, 1.2)), np.float32(rng.uniform(-0.5, 0.5))
            m = emit("Mul", [a, const(c0)], lambda x: x * x.dtype.type(c0))
            if m:
                emit("Add", [m, const(c1)], lambda x: x + x.dtype.type(c1))
        elif r < 0.78:
            emit("Clip", [a, const(np.float32(-0.75)), const(np.float32(0.9))], lambda x: np.clip(x, x.dtype.type(-0.75), x.dtype.type(np.float32(0.9))))
        elif r < 0.81:
            q = emit("Abs", [a], np.abs)
            q = q and emit("Add", [q, const(np.float32(0.5))], lambda x: x + x.dtype.type(0.5))
            if q:
                emit("Sqrt", [q], np.sqrt)
        elif r < 0.90 and len(s) and max(s) > 1:  # reduce, mostly keeping dims
            op = list(red)[int(rng.integers(len(red)))]
            ax = [i for i in range(len(s)) if s[i] > 1]
            ax = sorted(rng.choice(ax, size=1 if rng.random() < 0.75 else len(ax), replace=False).tolist())
            keep = int(rng.random() < 0.9)
            if op == "ReduceSum":  # a plain sum of many elements leaves the range: sum of the scaled tensor
                k = np.float32(1.0 / np.prod([s[i] for i in ax]))
                a = emit("Mul", [a, const(k)], lambda x: x * x.dtype.type(k)) or a
            emit(op, [a, const(np.array(ax, np.int64))], lambda x: red[op](x, axis=tuple(ax), keepdims=bool(keep)), keepdims=keep)
        elif r < 0.93 and len(s) == 3:  # transpose pair around an op keeps shapes usable
            p = rng.permutation(3).tolist()
            t = emit("Transpose", [a], lambda x: np.transpose(x, p), perm=p)
            t = t and emit("Tanh", [t], np.tanh)
            if t:
                inv = np.argsort(p).tolist()
                emit("Transpose", [t], lambda x: np.transpose(x, inv), perm=inv)
        elif r < 0.95 and s == full:  # reshape to 2-d and back
            t = emit("Reshape", [a, const(np.array([A * B, C], np.int64))], lambda x: x.reshape(A * B, C))
            t = t and emit("Sigmoid", [t], un["Sigmoid"])
            if t:
                emit("Reshape", [t, const(np.array(full, np.int64))], lambda x: x.reshape(full))
        elif r < 0.97 and s == full:  # slice halves and concatenate swapped
            h = C // 2
            i64 = lambda v: const(np.array([v], np.int64))
            lo = emit("Slice", [a, i64(0), i64(h), i64(2)], lambda x: x[..., :h])
            hi = emit("Slice", [a, i64(h), i64(C), i64(2)], lambda x: x[..., h:])
            if lo and hi:
                emit("Concat", [hi, lo], lambda x, y: np.concatenate((x, y), 2), axis=2)
        elif r < 0.985:  # where on a comparison of two graph inputs
            i, j = rng.choice(9, 2, replace=False)
            b = pick()
            try:
                np.broadcast_shapes(shape_of[f"x{i}"], shape_of[f"x{j}"], shape_of[a], shape_of[b])
            except ValueError:
                continue
            cname = f"b{len(conds)}"
            m = arrays[i] > arrays[j]
            nm = emit("Where", [cname, a, b], (lambda x, y=None: np.where(m, x, x if y is None else y))) if a != b else None
            if nm:
                nodes.insert(len(nodes) - 1, H.make_node("Greater", [f"x{i}", f"x{j}"], [cname], name=f"g{len(conds)}"))
                conds.append(cname)
        elif bcast(a, "x0") == full and s != full:
            emit("Expand", [a, const(np.array(full, np.int64))], lambda x: np.broadcast_to(x, full))
    # merge the leaves so that nothing is dead: at most 6 outputs
    i = 0
    while len(live) > 6 and i < 4000:
        i += 1
        a, b = live[0], live[1 + int(rng.integers(len(live) - 1))]
        if bcast(a, b) is None or len(np.broadcast_shapes(shape_of[a], shape_of[b])) > 3:
            ax = list(range(len(shape_of[a])))
            emit("ReduceMean", [a, const(np.array(ax, np.int64))], lambda x: x.mean(axis=tuple(ax), keepdims=True).reshape((1,) * len(ax)), keepdims=1) if max(shape_of[a], default=1) > 1 else emit("Tanh", [a], np.tanh)
            live.append(live.pop(0))
            continue
        if emit("Add", [a, b], np.add) is None:
            emit("Tanh", [a], np.tanh)
    outs = [n for n in live if not n.startswith("x")]
    g = H.make_graph(nodes, f"dag_{n_ops}_{seed}", inputs, [H.make_tensor_value_info(o, TP.FLOAT, shape_of[o]) for o in outs], inits)
    m = H.make_model(g, opset_imports=[H.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(m)
    err = max(float(np.abs(val[o][0] - val[o][1]).max()) for o in outs)
    return m, arrays, [val[o][0].astype(np.float32) for o in outs], dict(nodes=len(nodes), fp32_vs_fp64=err)
