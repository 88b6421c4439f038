"""Operators of com.microsoft, and quantised ones, against onnxruntime on random cases (contrib_cases.py), on the interpreter and on the host.

DLC_FUZZ_CASES is the number of cases for each operator (default 6; the full tier takes 200), DLC_FUZZ_SEED the seed. Quantised
results may differ by one step: onnxruntime looks some functions up in tables and rounds products in another order."""
import os
import zlib

import contrib_cases
import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import dlc

CASES = int(os.environ.get("DLC_FUZZ_CASES", "6"))
SEED = int(os.environ.get("DLC_FUZZ_SEED", "1"))
BATCH = 20


def names_of(case, c):
    """Names of the results of one case; none for those that are not asked for."""
    return ["" if o in getattr(case, "unused", ()) else f"y{c}_{o}" for o in range(case.outputs)]


def make_model(cases, expected=None):
    """(model, feed): the nodes of all cases side by side, inputs x<case>_<i>, outputs y<case>_<o>.

    With the expected arrays the outputs are declared with their types."""
    nodes, inputs, outputs, constants, feed = [], [], [], [], {}
    for c, case in enumerate(cases):
        names = []
        for i, array in enumerate(case.inputs):
            array = None if array is None else np.asarray(array)
            names.append("" if array is None else f"x{c}_{i}")
            if array is None:
                continue
            if i in case.constants:
                constants.append(numpy_helper.from_array(array, names[-1]))
            else:
                inputs.append(helper.make_tensor_value_info(names[-1], helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
                feed[names[-1]] = array
        while names and not names[-1]:
            names.pop()
        results = names_of(case, c)
        nodes.append(helper.make_node(case.op, names, results, name=f"case{c}", domain=getattr(case, "domain", "com.microsoft"), **case.attributes))
        asked = [result for result in results if result]
        if expected:
            outputs += [helper.make_tensor_value_info(result, helper.np_dtype_to_tensor_dtype(array.dtype), None)
                        for result, array in zip(asked, expected[c])]
        else:
            outputs += map(helper.make_empty_tensor_value_info, asked)
    graph = helper.make_graph(nodes, "fuzz", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10), feed


def expected_of(case):
    """onnxruntime's outputs for one case, or None where it refuses it."""
    model, feed = make_model([case])
    # Neither fused nor constant-folded: the kernel itself is the oracle.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # DynamicQuantizeLSTM: each thread takes the range of its own rows
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feed)
    except Exception:  # noqa: BLE001  it raises many kinds
        return None


def difference(got, expected):
    """None when equal up to rounding (bytes: up to one step), else a sentence."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return f"{got.dtype}{list(got.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if expected.dtype.itemsize == 1 or expected.dtype in (np.int16, np.uint16):
        apart = np.abs(got.astype(np.int64) - expected.astype(np.int64))
        return None if apart.max(initial=0) <= 1 else f"{got.ravel()[:8]}, expected {expected.ravel()[:8]}"
    if expected.dtype.kind != "f":
        return None if np.array_equal(got, expected) else f"{got.ravel()[:8]}, expected {expected.ravel()[:8]}"
    scale = float(np.abs(expected).max(initial=0))
    if np.allclose(got, expected, rtol=2e-5, atol=2e-5 * scale):
        return None
    worst = np.unravel_index(np.argmax(np.abs(got - expected)), expected.shape)
    return f"{got[worst]!r} at {tuple(map(int, worst))}, expected {expected[worst]!r}"


def run_cases(cases, expected, target):
    """A list of outputs (or the text of a refusal) for each case."""
    model, feed = make_model(cases, expected)
    try:
        results = iter(dlc.compile(model, target=target).run(feed))
    except dlc.UnsupportedOpError as error:
        if len(cases) == 1:
            return [str(error)]
        return [run_cases([case], [arrays], target)[0] for case, arrays in zip(cases, expected)]
    return [[next(results) for name in names_of(case, c) if name] for c, case in enumerate(cases)]


def describe(case):
    shapes = ", ".join("-" if x is None else f"{np.asarray(x).dtype}{list(np.shape(x))}" for x in case.inputs)
    return f"{case.op}({shapes}) {case.attributes}"


@pytest.mark.parametrize("target", ["interp", "host"])
@pytest.mark.parametrize("name", sorted(contrib_cases.GENERATORS))
def test_operator(name, target):
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    pairs, tried = [], 0
    while len(pairs) < CASES and tried < 4 * CASES:
        case, tried = contrib_cases.GENERATORS[name](rng), tried + 1
        if (expected := expected_of(case)) is not None:
            pairs.append((case, expected))
    if not pairs:
        pytest.skip(f"onnxruntime's CPU kernels take no case of {name}")
    wrong = []
    for start in range(0, len(pairs), BATCH):
        some = pairs[start : start + BATCH]
        for (case, expected), got in zip(some, run_cases(*map(list, zip(*some)), target)):
            text = got if isinstance(got, str) else next((d for d in map(difference, got, expected) if d), None)
            if text:
                wrong.append(f"{describe(case)}: {text}")
    assert not wrong, f"seed {SEED}, {len(wrong)} of {len(pairs)} cases differ:\n" + "\n".join(wrong[:5])


def test_group_query_attention_as_model_builders_write_it():
    """Lengths come from the attention mask; one compilation for a prompt and for steps behind caches of several lengths."""
    heads, groups, width, rng = 4, 2, 16, np.random.default_rng(SEED)
    tables = contrib_cases.tables(rng, 64, width // 2)
    constants = dict(one=np.array([1], np.int64), axis=np.array([1], np.int64), at=np.array(1, np.int64), cos=tables[0], sin=tables[1])
    node = helper.make_node
    nodes = [node("ReduceSum", ["attention_mask", "axis"], ["sum"], keepdims=0), node("Sub", ["sum", "one"], ["last"]),
             node("Cast", ["last"], ["seqlens_k"], to=6), node("Shape", ["attention_mask"], ["shape"]), node("Gather", ["shape", "at"], ["all"], axis=0),
             node("Cast", ["all"], ["total"], to=6),
             node("GroupQueryAttention", ["qkv", "", "", "past_k", "past_v", "seqlens_k", "total", "cos", "sin"], ["y", "present_k", "present_v"],
                  domain="com.microsoft", num_heads=heads, kv_num_heads=groups, do_rotary=1, local_window_size=6)]
    cache = lambda name, length: helper.make_tensor_value_info(name, 1, ["batch", groups, length, width])
    inputs = [helper.make_tensor_value_info("qkv", 1, ["batch", "new", (heads + 2 * groups) * width]),
              helper.make_tensor_value_info("attention_mask", 7, ["batch", "total"]), cache("past_k", "past"), cache("past_v", "past")]
    outputs = [helper.make_tensor_value_info("y", 1, ["batch", "new", heads * width]), cache("present_k", "total"), cache("present_v", "total")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    reference = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled = dlc.compile(model)
    for batch, new, past in ((1, 7, 0), (2, 5, 0), (1, 1, 1), (3, 1, 9), (1, 1, 30), (1, 4, 11)):
        feed = {"qkv": contrib_cases.f32(rng, batch, new, (heads + 2 * groups) * width), "attention_mask": np.ones((batch, past + new), np.int64),
                "past_k": contrib_cases.f32(rng, batch, groups, past, width), "past_v": contrib_cases.f32(rng, batch, groups, past, width)}
        for got, expected in zip(compiled.run(feed), reference.run(None, feed)):
            assert difference(got, expected) is None, (batch, new, past)
    # A mask that is longer than past and new together is not what the shapes say.
    feed["attention_mask"] = np.ones((1, 17), np.int64)
    with pytest.raises(dlc.RunError):
        compiled.run(feed)


def resident(tokens, room, window):
    """Rows of a windowed cache that hold a token, of so many tokens: what the operator's documentation says."""
    step = room - window + 1
    return tokens if tokens <= room else tokens - step * -(-(tokens - room) // step)


@pytest.mark.parametrize("quantised", (False, True))
@pytest.mark.parametrize("room, window", ((6, 6), (9, 6), (5, 1)))
def test_windowed_caches(room, window, quantised):
    """Step by step beside onnxruntime, prompts and single tokens; what lies in rows that hold no token is not computed with."""
    heads, groups, width, rng = 4, 2, 16, np.random.default_rng(SEED)
    tables, dtype = contrib_cases.tables(rng, 64, width // 2), np.int8 if quantised else np.float32
    names = ["qkv", "", "", "past_k", "past_v", "seqlens_k", "total", "cos", "sin", "", "", ""] + ["k_scale", "v_scale"] * quantised
    while not names[-1]:
        names.pop()
    more = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8} if quantised else {}
    node = helper.make_node("GroupQueryAttention", names, ["y", "present_k", "present_v"], domain="com.microsoft", num_heads=heads, kv_num_heads=groups,
                            do_rotary=1, local_window_size=window, sliding_window_cache=1, name="window", **more)
    info, cache = helper.make_tensor_value_info, ["batch", groups, room, width]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = dict(cos=tables[0], sin=tables[1])
    if quantised:
        constants.update({s: contrib_cases.f32(rng, 1, groups, 1, width, low=0.01, high=0.03) for s in ("k_scale", "v_scale")})
    graph = helper.make_graph([node], "g", [info("qkv", 1, ["batch", "new", (heads + 2 * groups) * width]), info("past_k", kind, cache), info("past_v", kind, cache),
                                            info("seqlens_k", 6, ["batch"]), info("total", 6, [])],
                              [info("y", 1, ["batch", "new", heads * width]), info("present_k", kind, cache), info("present_v", kind, cache)],
                              [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    reference = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled, total = dlc.compile(model), 0
    empty = np.zeros((1, groups, room, width), dtype)
    theirs, ours = [empty, empty], [empty, empty]
    for new in (3, 1, 1, 1, 4, 1, 1, 12, 1, 1):
        total, rows = total + new, resident(total + new, room, window)
        feed = {"qkv": contrib_cases.f32(rng, 1, new, (heads + 2 * groups) * width), "seqlens_k": np.array([total - 1], np.int32), "total": np.array(total, np.int32)}
        expected, *theirs = reference.run(None, {**feed, "past_k": theirs[0], "past_v": theirs[1]})
        got, *ours = compiled.run({**feed, "past_k": ours[0], "past_v": ours[1]})
        assert difference(got, expected) is None, (total, difference(got, expected))
        for a, b in zip(ours, theirs):
            assert difference(a[:, :, :rows], b[:, :, :rows]) is None, total
            if not quantised:
                a[:, :, rows:] = np.nan
    # Two sequences of other lengths in one step, as each of them alone.
    lengths, pasts = np.array([2, 11]), [contrib_cases.f32(rng, 2, groups, room, width).astype(dtype) for _ in "kv"]
    qkv = contrib_cases.f32(rng, 2, 1, (heads + 2 * groups) * width)
    both = compiled.run({"qkv": qkv, "past_k": pasts[0], "past_v": pasts[1], "seqlens_k": lengths.astype(np.int32), "total": np.array(12, np.int32)})
    for i, length in enumerate(lengths):
        one = compiled.run({"qkv": qkv[i : i + 1], "past_k": pasts[0][i : i + 1], "past_v": pasts[1][i : i + 1],
                            "seqlens_k": lengths[i : i + 1].astype(np.int32), "total": np.array(length + 1, np.int32)})
        assert difference(both[0][i], one[0][0]) is None
    with pytest.raises(dlc.RunError, match="window"):
        compiled.run({**feed, "past_k": ours[0], "past_v": ours[1], "seqlens_k": np.array([-1], np.int32)})


@pytest.mark.parametrize("changes, words", [
    ({"sliding_window_cache": 1, "local_window_size": 9}, "a cache of local_window_size rows or more does not hold"),
    ({"k_quant_type": "PER_TENSOR"}, "one of the caches quantised"),
    ({"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "scales": True, "kv_cache_bit_width": 4}, "caches of f.*32 with 4 bits"),
    ({"sliding_window_cache": 1, "local_window_size": 2, "bias": True}, "an attention_bias beside a windowed cache")], ids=str)
def test_group_query_caches_that_are_refused(changes, words):
    changes = dict(changes)
    f32 = lambda *shape: np.ones(shape, np.float32)
    inputs = [f32(1, 1, 32), None, None, f32(1, 1, 4, 8), f32(1, 1, 4, 8), np.array([4], np.int32), np.array(5, np.int32)] + [None] * 7
    if changes.pop("bias", False):
        inputs[10] = f32(1, 2, 1, 5)
    if changes.pop("scales", False):
        inputs[12] = inputs[13] = f32(1)
    case = contrib_cases.Case("GroupQueryAttention", inputs, {"num_heads": 2, "kv_num_heads": 1, **changes}, 3)
    model, _ = make_model([case], [[inputs[0], inputs[3], inputs[4]]])
    with pytest.raises(dlc.UnsupportedOpError, match=words):
        dlc.compile(model)


def test_layer_normalization_before_its_opset():
    """onnxruntime's tools write it into models of opsets that had none yet."""
    rng = np.random.default_rng(SEED)
    x, scale, bias = (contrib_cases.f32(rng, *shape) for shape in ((2, 5, 12), (12,), (12,)))
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], epsilon=1e-5)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, ["n", 5, 12])], [helper.make_tensor_value_info("y", 1, ["n", 5, 12])],
                              [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(bias, "bias")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    expected = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert difference(dlc.compile(model).run([x])[0], expected[0]) is None


def test_a_wrong_function_is_found_out():
    """Negative control: the other gelu, a step of two, a wrong shape."""
    rng = np.random.default_rng(SEED)
    case = contrib_cases.Case("QuickGelu", [contrib_cases.f32(rng, 2, 3, 8)])
    expected = expected_of(contrib_cases.Case("Gelu", case.inputs))
    assert difference(run_cases([case], [expected], "host")[0][0], expected[0])
    steps = np.array([3, 4], np.uint8)
    assert difference(steps, steps + np.uint8(1)) is None
    assert difference(steps, steps + np.uint8(2)) and difference(steps, steps[None])


def test_lengths_that_shapes_do_not_say_stop_the_run():
    """GroupQueryAttention of a batch whose rows have pasts of different lengths is no concatenation."""
    rng = np.random.default_rng(SEED)
    f32 = contrib_cases.f32
    inputs = [f32(rng, 2, 1, 16), f32(rng, 2, 1, 8), f32(rng, 2, 1, 8), f32(rng, 2, 1, 5, 8), f32(rng, 2, 1, 5, 8), np.array([5, 5], np.int32),
              np.array(6, np.int32)]
    case = contrib_cases.Case("GroupQueryAttention", inputs, {"num_heads": 2, "kv_num_heads": 1}, 3)
    model, feed = make_model([case], [expected_of(case)])
    compiled = dlc.compile(model)
    compiled.run(feed)
    with pytest.raises(dlc.RunError, match="case0"):
        compiled.run({**feed, "x0_5": np.array([5, 3], np.int32)})
