"""Single products, convolutions and attentions."""
import math

import torch
import torch.nn as nn

from nets.llm import alibi_slopes
from nets.subgraphs import Fn

MM_KN = [(4096, 4096), (4096, 11008), (11008, 4096), (4096, 12288)]
CONVS = {  # name: cin, cout, hw, k, stride, groups
    "conv_7x7s2_3_64_224": (3, 64, 224, 7, 2, 1), "conv_1x1_64_64_56": (64, 64, 56, 1, 1, 1), "conv_3x3_64_64_56": (64, 64, 56, 3, 1, 1),
    "conv_1x1_64_256_56": (64, 256, 56, 1, 1, 1), "conv_3x3s2_128_128_56": (128, 128, 56, 3, 2, 1), "conv_3x3_128_128_28": (128, 128, 28, 3, 1, 1),
    "conv_1x1s2_256_512_56": (256, 512, 56, 1, 2, 1), "conv_3x3_256_256_14": (256, 256, 14, 3, 1, 1), "conv_1x1_256_1024_14": (256, 1024, 14, 1, 1, 1),
    "conv_1x1_1024_256_14": (1024, 256, 14, 1, 1, 1), "conv_3x3_512_512_7": (512, 512, 7, 3, 1, 1), "conv_1x1_2048_512_7": (2048, 512, 7, 1, 1, 1),
    "dwconv_3x3_144_56": (144, 144, 56, 3, 1, 144), "dwconv_3x3s2_192_28": (192, 192, 28, 3, 2, 192), "dwconv_5x5_960_7": (960, 960, 7, 5, 1, 960),
}
ATTNS = {  # name: heads, kv heads, q length, k length, head dim, causal, alibi
    "attn_prefill_h32_s512_d128": (32, 32, 512, 512, 128, 1, 0), "attn_prefill_gqa32_8_s512_d128": (32, 8, 512, 512, 128, 1, 0),
    "attn_prefill_h32_s2048_d128": (32, 32, 2048, 2048, 128, 1, 0), "attn_prefill_alibi_h40_s512_d128": (40, 40, 512, 512, 128, 1, 1),
    "attn_bert_h12_s128_d64": (12, 12, 128, 128, 64, 0, 0), "attn_decode_h32_t512_d128": (32, 32, 1, 512, 128, 0, 0),
    "attn_decode_h32_t2048_d128": (32, 32, 1, 2048, 128, 0, 0), "attn_decode_gqa32_8_t2048_d128": (32, 8, 1, 2048, 128, 0, 0),
    "attn_decode_mqa32_2_t2048_d128": (32, 2, 1, 2048, 128, 0, 0),
}
DT = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def mm_case(m, k, n, dtype, g):
    w = (torch.randn(k, n, generator=g) / math.sqrt(k)).to(dtype)
    x = torch.randn(m, k, generator=g).to(dtype)
    e = w.element_size()
    return Fn(lambda x, w: x @ w, w=w), (x,), dict(flops=2 * m * k * n, bytes=e * (k * n + m * k + m * n))


def conv_case(spec, g):
    ci, co, hw, k, s, gr = spec
    c = nn.Conv2d(ci, co, k, s, k // 2, groups=gr)
    with torch.no_grad():
        c.weight.normal_(0, math.sqrt(2 / c.weight[0].numel()), generator=g)
        c.bias.normal_(0, 0.1, generator=g)
    o = (hw + 2 * (k // 2) - k) // s + 1
    return nn.Sequential(c, nn.ReLU()).eval(), (torch.randn(1, ci, hw, hw, generator=g),), dict(
        flops=2 * co * o * o * (ci // gr) * k * k, bytes=4 * (ci * hw * hw + co * o * o + c.weight.numel()))


def attn_case(spec, dtype, g):
    h, kv, s, t, d, causal, alibi = spec

    def f(q, k, v, **w):
        if kv != h:
            k = k[:, :, None].expand(1, kv, h // kv, t, d).reshape(1, h, t, d)
            v = v[:, :, None].expand(1, kv, h // kv, t, d).reshape(1, h, t, d)
        x = q @ k.transpose(2, 3) * (1 / math.sqrt(d))
        if alibi:
            x = x + w["bias"]
        if causal:
            x = x + w["mask"]
        return torch.softmax(x.float(), -1).to(q.dtype) @ v

    w = {}
    if causal:
        w["mask"] = torch.full((s, t), torch.finfo(dtype).min, dtype=dtype).triu(t - s + 1)
    if alibi:
        w["bias"] = (alibi_slopes(h)[None, :, None, None] * torch.arange(t).float()).to(dtype)
    x = (torch.randn(1, h, s, d, generator=g).to(dtype), torch.randn(1, kv, t, d, generator=g).to(dtype), torch.randn(1, kv, t, d, generator=g).to(dtype))
    e = x[0].element_size()
    fl = 4 * h * s * t * d  # the full square: the causal case may do half of it
    return Fn(f, **w), x, dict(flops=fl, bytes=e * (2 * h * s * d + 2 * kv * t * d))
