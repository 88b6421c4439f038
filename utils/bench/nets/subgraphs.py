"""Subgraphs that fusion is about: norms, softmax, activations, attention as exporters write them."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from nets.llm import rotate_half


class Fn(nn.Module):
    """A function over inputs and named constant weights."""

    def __init__(s, fn, /, **w):
        super().__init__()
        s.fn, s.names = fn, list(w)
        for k, v in w.items():
            s.register_buffer("w_" + k, v)

    def forward(s, *x):
        return s.fn(*x, **{k: getattr(s, "w_" + k) for k in s.names})


def _rope_tables(S, D, theta=1e4):
    f = torch.arange(S)[:, None].float() * (1.0 / theta ** (torch.arange(0, D, 2).float() / D))
    f = torch.cat((f, f), -1)
    return f.cos(), f.sin()


def sub_cases():
    R = lambda g, *s: torch.randn(*s, generator=g)

    def attn(q, k, v, cos, sin, mask):
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask, -1) @ v

    def rbr(x, w, b):  # reduce -> broadcast -> reduce -> broadcast -> elementwise -> reduce
        m = x.mean(-1, keepdim=True)
        d = x - m
        v = (d * d).mean(-1, keepdim=True)
        y = d / torch.sqrt(v + 1e-5) * w + b
        e = torch.exp(y - y.amax(-1, keepdim=True))
        return (e / e.sum(-1, keepdim=True) * x).sum(-1)

    def geluchain(x, r, b):
        h = x + b
        return torch.tanh(F.gelu(h) * 0.5 + r) * torch.sigmoid(h)

    def gelutanh(x, b):
        h = x + b
        return 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h ** 3)))

    def chan(x, r, s, b):
        return F.relu(x * s[:, None, None] + b[:, None, None] + r).mean((2, 3), keepdim=True) * x

    def rms(x, w):
        return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def resln(x, r, w, b):
        h = x + r
        return F.layer_norm(h, (h.shape[-1],), w, b, 1e-5), h

    def mid(x):  # softmax and statistics over a middle axis
        return torch.softmax(x, 1) * (x - x.amax(1, keepdim=True))

    def packed(x, w):  # packed QKV: one matmul, split, head transpose
        p = x @ w
        q, k, v = [t.view(1, 128, 8, 64).transpose(1, 2) for t in p.chunk(3, -1)]
        return torch.softmax(q @ k.transpose(-1, -2) * 0.125, -1) @ v

    def mmchain(x, r, w, b):  # matmul + bias + gelu + residual
        return F.gelu(x @ w + b) + r

    def quant(x):  # dynamic symmetric quantisation of rows, and back
        s = x.abs().amax(-1, keepdim=True) / 127.0
        q = torch.clamp(torch.round(x / s), -127, 127)
        return q * s, s

    L = {}
    L["softmax"] = lambda g: (Fn(lambda x: torch.softmax(x, -1)), (R(g, 16, 512, 512),))
    L["softmax_vocab"] = lambda g: (Fn(lambda x: torch.log_softmax(x, -1)), (R(g, 16, 32000),))
    L["softmax_mid_axis"] = lambda g: (Fn(mid), (R(g, 32, 256, 128),))
    L["layernorm"] = lambda g: (Fn(lambda x, w, b: F.layer_norm(x, (4096,), w, b), w=R(g, 4096), b=R(g, 4096)), (R(g, 512, 4096),))
    L["residual_layernorm"] = lambda g: (Fn(resln, w=R(g, 1024), b=R(g, 1024)), (R(g, 512, 1024), R(g, 512, 1024)))
    L["rmsnorm"] = lambda g: (Fn(rms, w=R(g, 4096)), (R(g, 512, 4096),))
    L["gelu_chain"] = lambda g: (Fn(geluchain, b=R(g, 4096)), (R(g, 512, 4096), R(g, 512, 4096)))
    L["gelu_tanh"] = lambda g: (Fn(gelutanh, b=R(g, 4096)), (R(g, 512, 4096),))
    L["silu_mul"] = lambda g: (Fn(lambda a, b: F.silu(a) * b), (R(g, 512, 11008), R(g, 512, 11008)))
    cos, sin = _rope_tables(512, 64)
    mask = torch.full((512, 512), -1e9).triu(1)
    L["rope_attention"] = lambda g: (Fn(attn, cos=cos, sin=sin, mask=mask), (R(g, 1, 16, 512, 64), R(g, 1, 16, 512, 64), R(g, 1, 16, 512, 64)))
    L["reduce_broadcast_reduce"] = lambda g: (Fn(rbr, w=R(g, 2048), b=R(g, 2048)), (R(g, 1024, 2048),))
    L["channel_affine_pool"] = lambda g: (Fn(chan, s=R(g, 256), b=R(g, 256)), (R(g, 1, 256, 56, 56), R(g, 1, 256, 56, 56)))
    L["packed_qkv_attention"] = lambda g: (Fn(packed, w=R(g, 512, 1536) / 22.6), (R(g, 1, 128, 512),))
    L["matmul_bias_gelu_residual"] = lambda g: (Fn(mmchain, w=R(g, 1024, 1024) / 32, b=R(g, 1024)), (R(g, 128, 1024), R(g, 128, 1024)))
    L["row_quant_dequant"] = lambda g: (Fn(quant), (R(g, 512, 4096),))
    return L
