"""torch tensors in and out, as docs/python.md promises. Skipped without torch, which `utils/install.sh --bench` installs."""

import numpy as np
import onnx
import pytest

import dlc

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("torch")


@pytest.fixture(scope="module")
def twice(folder):
    """By element type: y[n, m] = x + x, compiled once, saved and loaded."""
    made = {}

    def get(name):
        if name not in made:
            model = dlc.compile(onnx.parser.parse_model(
                f'<ir_version: 10, opset_import: ["" : 21]> twice ({name}[n, m] x) => ({name}[n, m] y) {{ y = Add(x, x) }}'))
            path = folder / f"{name}.so"
            model.save(path)
            made[name] = dlc.load(path)
        return made[name]

    return get


DTYPES = {"float": torch.float32, "double": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16,
          "int64": torch.int64, "int32": torch.int32, "int8": torch.int8, "uint8": torch.uint8}


def tensor(dtype, *shape):
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape).remainder(23).to(dtype)


def same(result, expected):
    return isinstance(result, torch.Tensor) and result.dtype == expected.dtype and torch.equal(result, expected)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (5, 1), (0, 4), (17, 33)])
def test_a_call_with_tensors_gives_tensors(twice, name, shape):
    x = tensor(DTYPES[name], *shape)
    expected = x + x
    assert same(twice(name)(x), expected)
    assert same(twice(name)(x=x), expected)
    if x.numel() > 1:
        assert not same(twice(name)(x), expected.flip(0, 1))  # the judge can say no


@pytest.mark.parametrize("name", DTYPES)
def test_tensors_need_not_be_contiguous(twice, name):
    base = tensor(DTYPES[name], 6, 10)
    for x in (base.T, base[::2], base[:, 1::3], base[2:5, 3:], base[:1].expand(4, 10), base.flip(0)):
        assert same(twice(name)(x), x + x), (x.shape, x.stride())
    assert torch.equal(base, tensor(DTYPES[name], 6, 10))  # inputs are read only


def test_run_gives_arrays(twice):
    import ml_dtypes

    y, = twice("float").run([tensor(torch.float32, 2, 3)])
    assert isinstance(y, np.ndarray) and y.dtype == np.float32 and y[1, 2] == 10
    y, = twice("bfloat16").run({"x": tensor(torch.bfloat16, 2, 3)})
    assert isinstance(y, np.ndarray) and y.dtype == ml_dtypes.bfloat16 and float(y[1, 2]) == 10


def test_gradients_views_and_negated_tensors(twice):
    x = tensor(torch.float32, 3, 4).requires_grad_()
    y = twice("float")(x)
    assert same(y, (x + x).detach()) and not y.requires_grad
    z = torch.view_as_complex(torch.ones(3, 4, 2)).conj().imag  # the negative bit is lazy
    assert z.is_neg() and same(twice("float")(z), torch.full((3, 4), -2.0))


def test_results_are_the_callers(twice):
    x = tensor(torch.float32, 3, 4)
    first, second = twice("float")(x), twice("float")(x + 1)
    assert same(first, x + x) and same(second, x + x + 2)
    first.zero_()  # writable, and nobody else's
    assert same(twice("float")(x), x + x) and same(second, x + x + 2)
    assert torch.equal(torch.from_dlpack(twice("float").run([x])[0]), x + x)


def test_inputs_are_not_copied_where_they_need_not_be():
    from dlc.model import as_array

    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        x = tensor(dtype, 4, 6)
        assert as_array(x).__array_interface__["data"][0] == x.data_ptr()
        assert as_array(x.T).shape == (6, 4)


def test_scalars_narrow_types_bools_and_mixed_inputs():
    model = dlc.compile(onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        mixed (float[n] x, float s, bool[n] keep) => (float8e4m3fn[n] small, bool[n] drop, bfloat16[n] half)
        { p = Mul(x, s)  small = Cast <to = 17> (p)  drop = Not(keep)  half = Cast <to = 16> (p) }"""))
    x, keep = torch.tensor([1.0, -2.0, 500.0]), torch.tensor([True, False, True])
    small, drop, half = model(x, np.float32(0.5), keep)
    assert same(small, (x * 0.5).to(torch.float8_e4m3fn).float().to(torch.float8_e4m3fn)) or same(
        small.float(), torch.tensor([0.5, -1.0, 250.0]).to(torch.float8_e4m3fn).float())
    assert same(drop, ~keep) and same(half, (x * 0.5).to(torch.bfloat16))
    small, drop, half = model(x.numpy(), torch.tensor(0.5), keep.numpy())  # one tensor is enough
    assert same(half, (x * 0.5).to(torch.bfloat16)) and same(drop, ~keep)
    back = dlc.compile(onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        back (float8e4m3fn[n] x) => (float[n] y) { y = Cast <to = 1> (x) }"""))
    assert same(back(small), small.float())


def test_lists_of_tensors():
    model = dlc.compile(onnx.helper.make_model(onnx.helper.make_graph(
        [onnx.helper.make_node("SplitToSequence", ["x"], ["parts"], axis=0, keepdims=0)], "split",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.BFLOAT16, [3, "n"])],
        [onnx.helper.make_tensor_sequence_value_info("parts", onnx.TensorProto.BFLOAT16, None)]),
        opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10))
    x = tensor(torch.bfloat16, 3, 4)
    parts = model(x)
    assert len(parts) == 3 and all(same(part, row) for part, row in zip(parts, x))


def test_what_cannot_be_read_is_refused_in_words(twice):
    with pytest.raises(dlc.RunError, match="device meta"):
        twice("float")(torch.empty(2, 2, device="meta"))
    with pytest.raises(dlc.RunError, match="input 'x'"):
        twice("float")(tensor(torch.int64, 2, 2))
    with pytest.raises(dlc.RunError, match="sparse"):
        twice("float")(torch.eye(3).to_sparse())
