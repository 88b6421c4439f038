"""What utils/bench/cuda.py asks of torch, on numpy: for tests of how peers are measured. softmax is out of order."""
import contextlib
import time
import types

import numpy as np

__version__ = "fake"
float32, float16, bfloat16, int8 = "float32", "float16", "bfloat16", "int8"
SECONDS = 0.02  # of every call


class Tensor:
    def __init__(self, array, where="cpu"):
        self.array, self.where = array, where

    def to(self, where, kind):
        # bfloat16 as float32: numpy has none.
        return Tensor(self.array.astype("float32" if kind == bfloat16 else kind), where)

    def __matmul__(self, other):
        assert self.where == other.where == "cuda"
        time.sleep(SECONDS)
        return Tensor(self.array.astype(np.float32) @ other.array.astype(np.float32), "cuda")


def from_numpy(array):
    return Tensor(array)


def scaled_dot_product_attention(q, k, v, is_causal, enable_gqa):
    assert q.where == "cuda" and enable_gqa == (q.array.shape[1] != k.array.shape[1])
    time.sleep(SECONDS)


def softmax(x, axis):
    raise RuntimeError("no softmax today")


def compile(function):
    return lambda x: time.sleep(SECONDS)


no_grad = contextlib.nullcontext
nn = types.SimpleNamespace(functional=types.SimpleNamespace(scaled_dot_product_attention=scaled_dot_product_attention))
cuda = types.SimpleNamespace(is_available=lambda: True, synchronize=lambda: None)
backends = types.SimpleNamespace(cuda=types.SimpleNamespace(matmul=types.SimpleNamespace(allow_tf32=True)), cudnn=types.SimpleNamespace(allow_tf32=True))
