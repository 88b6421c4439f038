"""Results of the Python package: whose memory they are, when it is used again, and arrays that the caller gives."""

import concurrent.futures
import gc

import numpy as np
import onnx
import pytest

import dlc


def compiled(text, **flags):
    return dlc.compile(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}'), **flags)


@pytest.fixture(scope="module")
def negate():
    return compiled("negate (float[n, 1024] x) => (float[n, 1024] y) { y = Neg(x) }")


def filled(value, rows=64):
    return np.full((rows, 1024), value, np.float32)


def address(array):
    return array.__array_interface__["data"][0]


# ----------------------------------------------------------------- memory that is used again
def test_what_somebody_holds_is_never_written(negate):
    held = [negate(filled(i)) for i in range(4)]
    part = negate(filled(4))[5:7, 3:9].T  # of the result only a view of a view is left
    view = memoryview(negate(filled(5)))
    other = np.from_dlpack(negate(filled(6)))
    for i in range(10):
        negate(filled(99))
    assert all((y == -i).all() for i, y in enumerate(held))
    assert (part == -4).all() and (np.asarray(view) == -5).all() and (other == -6).all()


def test_torch_holds_it_too(negate):
    torch = pytest.importorskip("torch")
    kept = [torch.from_numpy(negate(filled(7))), torch.from_dlpack(negate(filled(8))), negate(torch.from_numpy(filled(9)))]
    for i in range(10):
        negate(filled(99))
    assert [float(t.max()) for t in kept] == [float(t.min()) for t in kept] == [-7, -8, -9]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_pipelines_of_any_depth_use_their_memory_again(negate, depth):
    held, seen = [], set()
    for i in range(40):
        held.append(negate(filled(i)))
        if len(held) > depth:
            held.pop(0)
        if i >= 2 * depth + 2:
            seen.add(address(held[-1]))
    assert len(seen) <= depth + 2
    assert all((y == -float(39 - i)).all() for i, y in enumerate(reversed(held)))


def test_what_waits_is_bounded():
    model = compiled("negate (float[n, 1024] x) => (float[n, 1024] y) { y = Neg(x) }")
    one = filled(0).nbytes
    held = [model(filled(i)) for i in range(12)]
    assert model._model.waiting_bytes() == 0
    del held
    assert model._model.waiting_bytes() <= 2 * (one + 64)  # of twelve
    assert model._model.waiting_bytes() >= one
    model(filled(0, rows=1))  # a smaller run: less may wait
    assert model._model.waiting_bytes() <= 2 * (filled(0, rows=1).nbytes + 64)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_it_goes_with_the_model_and_results_outlive_it():
    model = compiled("negate (float[n, 1024] x) => (float[n, 1024] y) { y = Neg(x) }")
    x = filled(3, rows=8192)  # 32 MB
    first, last = model(x), model(x)
    del last
    before = resident()
    del model
    gc.collect()
    assert before - resident() > 24 << 20
    assert (first == -3).all()


def test_threads_share_the_memory(negate):
    def work(seed):
        for i in range(30):
            value = seed * 100 + i
            y = negate(filled(value))
            z = negate(filled(value + 0.5))
            assert (y == -value).all() and (z == -value - 0.5).all()
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


# ----------------------------------------------------------------- out=
def test_out_is_written_in_place(negate):
    x, y = filled(2), np.zeros((64, 1024), np.float32)
    result, = negate.run([x], out=[y])
    assert result is y and (y == -2).all()
    assert negate(x + 1, out=y) is y and (y == -3).all()
    assert negate(x=x, out={"y": y}) is y and (y == -2).all()
    whole = np.zeros((3, 64, 1024), np.float32)
    negate(x, out=whole[1])  # a contiguous part of an array
    assert (whole[1] == -2).all() and not whole[0].any() and not whole[2].any()


def test_out_of_some_outputs():
    model = compiled("two (float[n] x) => (float[n] a, float[n] b) { a = Neg(x)  b = Abs(x) }")
    x, b = np.array([-1, 2], np.float32), np.empty(2, np.float32)
    first, second = model.run([x], out=[None, b])
    assert second is b and b.tolist() == [1, 2] and first.tolist() == [1, -2]
    first, second = model.run([x], out={"a": b})
    assert first is b and b.tolist() == [1, -2] and second.tolist() == [1, 2]


def test_out_of_tensors_and_foreign_types():
    import ml_dtypes

    model = compiled("half (float[n] x) => (bfloat16[n] y) { y = Cast <to = 16> (x) }")
    x = np.array([1, 2.5], np.float32)
    y = np.zeros(2, ml_dtypes.bfloat16)
    assert model(x, out=y) is y and y.astype(np.float32).tolist() == [1, 2.5]
    bits = np.zeros(2, np.uint16)
    assert model(x, out=bits) is bits and bits.tolist() == [0x3f80, 0x4020]
    torch = pytest.importorskip("torch")
    t = torch.zeros(2, dtype=torch.bfloat16)
    assert model(torch.from_numpy(x), out=t) is t and t.tolist() == [1, 2.5]
    with pytest.raises(dlc.RunError, match="not contiguous"):
        model(x, out=torch.zeros(4, dtype=torch.bfloat16)[::2])


def unaligned(shape):
    memory = np.zeros(int(np.prod(shape)) * 4 + 1, np.uint8)
    return memory[1:].view(np.float32).reshape(shape)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("out, words", [
    (np.zeros((64, 1024), np.float64), "dtype float64, the model gives float32"),
    (np.zeros((64, 1023), np.float32), r"shape \[64, 1023\], these inputs give \[64, 1024\]"),
    (np.zeros(64 * 1024, np.float32), r"shape \[65536\]"),
    (np.zeros((1024, 64), np.float32).T, "not contiguous"),
    (np.zeros((64, 2048), np.float32)[:, ::2], "not contiguous"),
    (read_only(np.zeros((64, 1024), np.float32)), "read-only"),
    (unaligned((64, 1024)), "not aligned"),
    ([[0.0]], "type list"),
    ([], "1 outputs"),
    ({"z": np.zeros((64, 1024), np.float32)}, "unknown"),
])
def test_arrays_that_do_not_fit_are_named(negate, out, words):
    with pytest.raises(dlc.RunError, match=words):
        negate(filled(1), out=out if isinstance(out, (dict, list)) else [out])


def test_memory_that_is_shared_is_refused(negate):
    x = filled(1)
    with pytest.raises(dlc.RunError, match="output 'y' overlaps that of input 'x'"):
        negate(x, out=x)
    memory = np.ones((65, 1024), np.float32)
    with pytest.raises(dlc.RunError, match="overlaps"):
        negate(memory[:64], out=memory[1:])
    both = np.ones((128, 1024), np.float32)
    negate(both[:64], out=both[64:])  # neighbours share nothing
    assert (both[64:] == -1).all() and (both[:64] == 1).all()
    two = compiled("two (float[n] x) => (float[n] a, float[n] b) { a = Neg(x)  b = Abs(x) }")
    y = np.zeros(3, np.float32)
    with pytest.raises(dlc.RunError, match="output 'b' overlaps that of output 'a'"):
        two.run([np.ones(3, np.float32)], out=[y, y])


def test_sizes_that_the_data_tell_take_no_array():
    model = compiled("find (bool[n] x) => (int64[1, m] y) { y = NonZero(x) }")
    x = np.array([True, False, True])
    with pytest.raises(dlc.RunError, match="the data tell"):
        model(x, out=np.zeros((1, 2), np.int64))
    assert model(x, out=[None]).tolist() == [[0, 2]]


def test_an_input_called_out_is_an_input():
    model = compiled("named (float[n] out) => (float[n] y) { y = Neg(out) }")
    assert model(out=np.array([2], np.float32)).tolist() == [-2]


def test_the_interpreter_takes_out_too():
    model = compiled("negate (float[n, 4] x) => (float[n, 4] y) { y = Neg(x) }", target="interp")
    y = np.zeros((2, 4), np.float32)
    assert model(np.ones((2, 4), np.float32), out=y) is y and (y == -1).all()
    with pytest.raises(dlc.RunError, match="dtype"):
        model(np.ones((2, 4), np.float32), out=np.zeros((2, 4)))
