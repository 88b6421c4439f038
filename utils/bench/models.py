#!/usr/bin/env python3
"""Deterministic ONNX benchmark cases for dlc.

    python models.py --list
    python models.py --out cases                         # every default case
    python models.py --out cases --only 'llama2*' 'mm_*' # shell patterns
    python models.py --out cases --group sub kernel
    python models.py --out cases --full-width --layers 1 --only 'llama2*'

Each case becomes a folder:  <out>/<case>/
    model.onnx              one graph, static shapes, weights inside (external data above 1.5 GB)
    input_<i>.npy           one per graph input, in graph order
    output_<i>.npy          expected outputs, in graph order
    meta.json               dtypes, shapes, flops, bytes, who made the reference, tolerance
bfloat16 arrays are stored as uint16 bit patterns (meta.json says "bfloat16").

Everything is seeded by the case's name: two runs write the same weights and inputs.
Groups: cnn, concat (image networks that concatenate channels), bert, llm, sub (fusion subgraphs), dag (random elementwise/broadcast/reduce DAGs),
kernel (single matmul / conv / attention).
"""
import argparse, fnmatch, json, math, os, sys, time, warnings, zlib, logging

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from concat_nets import CONCAT_NETS
from dags import random_dag

OPSET = 18


# --------------------------------------------------------------------------- helpers
def seed_of(name):
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def init_weights(m, seed):
    """Seeded weights at a realistic scale: variance-preserving, norms near one."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for mod in m.modules():
            if isinstance(mod, nn.Linear):
                mod.weight.normal_(0, 1 / math.sqrt(mod.in_features), generator=g)
                if mod.bias is not None:
                    mod.bias.normal_(0, 0.02, generator=g)
            elif isinstance(mod, nn.Conv2d):
                fan = mod.weight[0].numel()
                mod.weight.normal_(0, math.sqrt(2 / fan), generator=g)
                if mod.bias is not None:
                    mod.bias.normal_(0, 0.02, generator=g)
            elif isinstance(mod, nn.BatchNorm2d):
                mod.weight.uniform_(0.6, 1.0, generator=g)
                mod.bias.normal_(0, 0.1, generator=g)
                mod.running_mean.normal_(0, 0.1, generator=g)
                mod.running_var.uniform_(0.8, 1.2, generator=g)
            elif isinstance(mod, nn.Embedding):
                mod.weight.normal_(0, 1.0 if mod.embedding_dim < 64 else 0.5, generator=g)
            elif isinstance(mod, (nn.LayerNorm, RMSNorm)):
                mod.weight.normal_(1.0, 0.1, generator=g)
                if getattr(mod, "bias", None) is not None:
                    mod.bias.normal_(0, 0.02, generator=g)
    return m.eval()


# --------------------------------------------------------------------------- CNNs
class Bottleneck(nn.Module):
    def __init__(s, cin, mid, stride):
        super().__init__()
        cout = mid * 4
        s.conv1, s.bn1 = nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid)
        s.conv2, s.bn2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False), nn.BatchNorm2d(mid)
        s.conv3, s.bn3 = nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout)
        s.down = None
        if stride != 1 or cin != cout:
            s.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(s, x):
        y = F.relu(s.bn1(s.conv1(x)))
        y = F.relu(s.bn2(s.conv2(y)))
        y = s.bn3(s.conv3(y)) * 0.5  # keeps the residual stream from growing with random weights
        return F.relu(y + (x if s.down is None else s.down(x)))


class ResNet50(nn.Module):
    def __init__(s, classes=1000):
        super().__init__()
        s.conv1, s.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        blocks, cin = [], 64
        for i, (n, mid) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
            for j in range(n):
                blocks.append(Bottleneck(cin, mid, 2 if i and j == 0 else 1))
                cin = mid * 4
        s.layers, s.fc = nn.Sequential(*blocks), nn.Linear(2048, classes)

    def forward(s, x):
        x = F.max_pool2d(F.relu(s.bn1(s.conv1(x))), 3, 2, 1)
        x = F.adaptive_avg_pool2d(s.layers(x), 1).flatten(1)
        return s.fc(x)


class InvRes(nn.Module):
    """MobileNet v2/v3 block: expand, depthwise, optional squeeze-excite, project."""

    def __init__(s, cin, cout, stride, exp, k=3, se=False, act="relu6"):
        super().__init__()
        s.act = {"relu6": F.relu6, "relu": F.relu, "hs": F.hardswish}[act]
        s.expand = None
        if exp != cin:
            s.expand = nn.Sequential(nn.Conv2d(cin, exp, 1, bias=False), nn.BatchNorm2d(exp))
        s.dw = nn.Sequential(nn.Conv2d(exp, exp, k, stride, k // 2, groups=exp, bias=False), nn.BatchNorm2d(exp))
        s.se = None
        if se:
            sq = max(8, (exp // 4 + 4) // 8 * 8)
            s.se = nn.ModuleList([nn.Conv2d(exp, sq, 1), nn.Conv2d(sq, exp, 1)])
        s.proj = nn.Sequential(nn.Conv2d(exp, cout, 1, bias=False), nn.BatchNorm2d(cout))
        s.skip = stride == 1 and cin == cout

    def forward(s, x):
        y = x if s.expand is None else s.act(s.expand(x))
        y = s.act(s.dw(y))
        if s.se is not None:
            z = F.adaptive_avg_pool2d(y, 1)
            y = y * F.hardsigmoid(s.se[1](F.relu(s.se[0](z))))
        y = s.proj(y)
        return x + y if s.skip else y


class MobileNet(nn.Module):
    def __init__(s, v):
        super().__init__()
        s.v = v
        if v == 2:
            s.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32))
            bl, cin = [], 32
            for t, c, n, st in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
                for i in range(n):
                    bl.append(InvRes(cin, c, st if i == 0 else 1, cin * t))
                    cin = c
            s.blocks = nn.Sequential(*bl)
            s.head = nn.Sequential(nn.Conv2d(cin, 1280, 1, bias=False), nn.BatchNorm2d(1280))
            s.fc = nn.Linear(1280, 1000)
        else:  # v3 large
            s.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
            cfg = [(3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 1, "relu", 2),
                   (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1), (3, 240, 80, 0, "hs", 2), (3, 200, 80, 0, "hs", 1),
                   (3, 184, 80, 0, "hs", 1), (3, 184, 80, 0, "hs", 1), (3, 480, 112, 1, "hs", 1), (3, 672, 112, 1, "hs", 1),
                   (5, 672, 160, 1, "hs", 2), (5, 960, 160, 1, "hs", 1), (5, 960, 160, 1, "hs", 1)]
            bl, cin = [], 16
            for k, e, c, se, act, st in cfg:
                bl.append(InvRes(cin, c, st, e, k, bool(se), act))
                cin = c
            s.blocks = nn.Sequential(*bl)
            s.head = nn.Sequential(nn.Conv2d(cin, 960, 1, bias=False), nn.BatchNorm2d(960))
            s.fc1, s.fc = nn.Linear(960, 1280), nn.Linear(1280, 1000)

    def forward(s, x):
        act = F.relu6 if s.v == 2 else F.hardswish
        x = s.blocks(act(s.stem(x)))
        x = F.adaptive_avg_pool2d(act(s.head(x)), 1).flatten(1)
        if s.v == 3:
            x = F.hardswish(s.fc1(x))
        return s.fc(x)


# --------------------------------------------------------------------------- BERT
class Bert(nn.Module):
    def __init__(s, layers=12, h=768, heads=12, inter=3072, vocab=30522):
        super().__init__()
        s.heads = heads
        s.word, s.pos, s.typ = nn.Embedding(vocab, h), nn.Embedding(512, h), nn.Embedding(2, h)
        s.ln = nn.LayerNorm(h, eps=1e-12)
        mk = lambda: nn.ModuleDict(dict(q=nn.Linear(h, h), k=nn.Linear(h, h), v=nn.Linear(h, h), o=nn.Linear(h, h),
                                        ln1=nn.LayerNorm(h, eps=1e-12), f1=nn.Linear(h, inter), f2=nn.Linear(inter, h),
                                        ln2=nn.LayerNorm(h, eps=1e-12)))
        s.blocks = nn.ModuleList([mk() for _ in range(layers)])
        s.pool = nn.Linear(h, h)

    def forward(s, input_ids, attention_mask, token_type_ids):
        B, S = input_ids.shape
        x = s.ln(s.word(input_ids) + s.typ(token_type_ids) + s.pos.weight[:S])
        bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -1e4
        for b in s.blocks:
            sp = lambda t: t.view(B, S, s.heads, -1).transpose(1, 2)
            q, k, v = sp(b["q"](x)), sp(b["k"](x)), sp(b["v"](x))
            p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias, -1)
            a = (p @ v).transpose(1, 2).reshape(B, S, -1)
            x = b["ln1"](x + b["o"](a))
            x = b["ln2"](x + b["f2"](F.gelu(b["f1"](x))))
        return x, torch.tanh(s.pool(x[:, 0]))


# --------------------------------------------------------------------------- decoder LLMs
class RMSNorm(nn.Module):
    def __init__(s, n, eps=1e-6):
        super().__init__()
        s.weight, s.eps = nn.Parameter(torch.ones(n)), eps

    def forward(s, x):
        f = x.float()
        f = f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + s.eps)
        return s.weight * f.to(x.dtype)


def rotate_half(x):
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def alibi_slopes(n):
    p = 2 ** math.floor(math.log2(n))
    base = [2 ** (-8.0 * (i + 1) / p) for i in range(p)]
    if p < n:
        extra = [2 ** (-4.0 * (i + 1) / p) for i in range(2 * p)]
        base += extra[0::2][: n - p]
    return torch.tensor(base, dtype=torch.float32)


class Cfg:
    """One decoder family. Parameter names follow the public checkpoints of each family."""

    def __init__(s, family, hidden, layers, heads, kv_heads, inter, vocab, head_dim=None):
        s.family, s.hidden, s.layers, s.heads, s.kv, s.inter, s.vocab = family, hidden, layers, heads, kv_heads, inter, vocab
        s.hd = head_dim or hidden // heads
        s.packed = family in ("baichuan2_7b", "baichuan2_13b", "chatglm", "chatglm2")  # one QKV projection
        s.qkv_bias = family in ("qwen2", "chatglm", "chatglm2")
        s.qk_norm = family == "qwen3"
        s.rope = {"baichuan2_13b": None, "chatglm": "2d", "chatglm2": "interleaved"}.get(family, "half")
        s.theta = {"qwen2": 1e6, "qwen3": 1e6}.get(family, 1e4)
        s.eps = {"llama2": 1e-5, "chatglm2": 1e-5}.get(family, 1e-6)
        s.gelu_mlp = family == "chatglm"


class Attn(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.c = c
        q, kv = c.heads * c.hd, c.kv * c.hd
        if c.packed:
            s.W_pack = nn.Linear(c.hidden, q + 2 * kv, bias=c.qkv_bias)
        else:
            s.q_proj = nn.Linear(c.hidden, q, bias=c.qkv_bias)
            s.k_proj = nn.Linear(c.hidden, kv, bias=c.qkv_bias)
            s.v_proj = nn.Linear(c.hidden, kv, bias=c.qkv_bias)
        s.o_proj = nn.Linear(q, c.hidden, bias=c.family == "chatglm")
        if c.qk_norm:
            s.q_norm, s.k_norm = RMSNorm(c.hd, c.eps), RMSNorm(c.hd, c.eps)
        if c.rope is None:
            s.register_buffer("slopes", alibi_slopes(c.heads), persistent=False)

    def rot(s, x, rope):
        c = s.c
        if c.rope == "half":  # llama, qwen, baichuan-7B
            cos, sin = rope
            return x * cos + rotate_half(x) * sin
        if c.rope == "2d":  # ChatGLM-6B: one half of the head by position, the other by block position
            (c1, s1), (c2, s2) = rope
            a, b = x.chunk(2, -1)
            return torch.cat((a * c1 + rotate_half(a) * s1, b * c2 + rotate_half(b) * s2), -1)
        cos, sin = rope  # ChatGLM2: first half of the head only, pairs interleaved
        r = x.shape[-1] // 2
        a, keep = x[..., :r], x[..., r:]
        a = a.reshape(*a.shape[:-1], r // 2, 2)
        a0, a1 = a[..., 0], a[..., 1]
        a = torch.stack((a0 * cos - a1 * sin, a1 * cos + a0 * sin), -1).flatten(-2)
        return torch.cat((a, keep), -1)

    def forward(s, x, rope, bias, past_k, past_v, pos):
        c = s.c
        B, S, _ = x.shape
        if c.packed:
            p = s.W_pack(x)
            if c.family == "baichuan2_7b" or c.family == "baichuan2_13b":
                p = p.unflatten(-1, (3, c.hidden)).unsqueeze(0).transpose(0, -2).squeeze(-2)
                q, k, v = p[0], p[1], p[2]
            else:
                q, k, v = p.split([c.heads * c.hd, c.kv * c.hd, c.kv * c.hd], -1)
        else:
            q, k, v = s.q_proj(x), s.k_proj(x), s.v_proj(x)
        q = q.view(B, S, c.heads, c.hd).transpose(1, 2)
        k = k.view(B, S, c.kv, c.hd).transpose(1, 2)
        v = v.view(B, S, c.kv, c.hd).transpose(1, 2)
        if c.qk_norm:
            q, k = s.q_norm(q), s.k_norm(k)
        if c.rope is not None:
            q, k = s.rot(q, rope), s.rot(k, rope)
        if past_k is not None:
            k, v = torch.cat((past_k, k), 2), torch.cat((past_v, v), 2)
        nk, nv = k, v
        if c.kv != c.heads:  # grouped / multi query: repeat as the reference code does
            n = c.heads // c.kv
            T = k.shape[2]
            k = k[:, :, None].expand(B, c.kv, n, T, c.hd).reshape(B, c.heads, T, c.hd)
            v = v[:, :, None].expand(B, c.kv, n, T, c.hd).reshape(B, c.heads, T, c.hd)
        w = q @ k.transpose(2, 3) / math.sqrt(c.hd)
        if c.rope is None:
            T = k.shape[2]
            dist = torch.arange(T, device=x.device)[None, None, None, :].to(w.dtype)
            w = w + s.slopes.to(w.dtype)[None, :, None, None] * dist
        w = w + bias
        w = torch.softmax(w.float(), -1).to(q.dtype)
        o = (w @ v).transpose(1, 2).reshape(B, S, -1)
        return s.o_proj(o), nk, nv


class MLP(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.c = c
        if c.family == "chatglm":
            s.dense_h_to_4h, s.dense_4h_to_h = nn.Linear(c.hidden, c.inter), nn.Linear(c.inter, c.hidden)
        elif c.family == "chatglm2":
            s.dense_h_to_4h = nn.Linear(c.hidden, 2 * c.inter, bias=False)
            s.dense_4h_to_h = nn.Linear(c.inter, c.hidden, bias=False)
        else:
            s.gate_proj = nn.Linear(c.hidden, c.inter, bias=False)
            s.up_proj = nn.Linear(c.hidden, c.inter, bias=False)
            s.down_proj = nn.Linear(c.inter, c.hidden, bias=False)

    def forward(s, x):
        if s.c.family == "chatglm":
            h = s.dense_h_to_4h(x)
            h = 0.5 * h * (1.0 + torch.tanh(0.7978845608028654 * h * (1.0 + 0.044715 * h * h)))
            return s.dense_4h_to_h(h)
        if s.c.family == "chatglm2":
            a, b = s.dense_h_to_4h(x).chunk(2, -1)
            return s.dense_4h_to_h(F.silu(a) * b)
        return s.down_proj(F.silu(s.gate_proj(x)) * s.up_proj(x))


class Block(nn.Module):
    def __init__(s, c):
        super().__init__()
        norm = (lambda: nn.LayerNorm(c.hidden, eps=1e-5)) if c.family == "chatglm" else (lambda: RMSNorm(c.hidden, c.eps))
        s.c = c
        s.input_layernorm, s.post_attention_layernorm = norm(), norm()
        s.self_attn, s.mlp = Attn(c), MLP(c)
        s.alpha = (2 * 28) ** 0.5

    def forward(s, x, rope, bias, pk, pv, pos):
        n = s.input_layernorm(x)
        a, k, v = s.self_attn(n, rope, bias, pk, pv, pos)
        if s.c.family == "chatglm":  # DeepNorm-style residual from the normalised input
            x = n * s.alpha + a
            n = s.post_attention_layernorm(x)
            return n * s.alpha + s.mlp(n), k, v
        x = x + a
        return x + s.mlp(s.post_attention_layernorm(x)), k, v


class Decoder(nn.Module):
    """embed -> blocks -> norm -> lm_head(last token). Inputs: input_ids [1,S], attention_mask [1,T],
    position_ids [1,S] ([1,2,S] for ChatGLM-6B), then past_k/past_v of every layer (decode only).
    Outputs: logits of the last token, then the new k/v of every layer."""

    def __init__(s, c, past):
        super().__init__()
        s.c, s.past = c, past
        s.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        s.layers = nn.ModuleList([Block(c) for _ in range(c.layers)])
        s.norm = nn.LayerNorm(c.hidden) if c.family == "chatglm" else RMSNorm(c.hidden, c.eps)
        s.lm_head = nn.Linear(c.hidden, c.vocab, bias=False)
        dim = c.hd if c.rope == "half" else c.hd // 2
        s.register_buffer("inv_freq", 1.0 / (c.theta ** (torch.arange(0, dim, 2).float() / dim)), persistent=False)

    def rope(s, position_ids, dtype):
        c = s.c
        if c.rope is None:
            return None

        def cs(p, dup):
            f = p[:, None, :, None].float() * s.inv_freq.float()
            f = torch.cat((f, f), -1) if dup else f
            return f.cos().to(dtype), f.sin().to(dtype)

        if c.rope == "2d":
            return cs(position_ids[:, 0], True), cs(position_ids[:, 1], True)
        return cs(position_ids, c.rope == "half")

    def forward(s, input_ids, attention_mask, position_ids, *past):
        x = s.embed_tokens(input_ids)
        S, T = input_ids.shape[1], attention_mask.shape[1]
        neg = torch.finfo(x.dtype).min
        # the mask as the public implementations build it: causal comparison + padding, as an additive bias
        qpos = torch.arange(T - S, T, device=x.device)[:, None]
        kpos = torch.arange(T, device=x.device)[None, :]
        ok = (kpos <= qpos)[None, None] & (attention_mask[:, None, None, :] > 0)
        bias = torch.where(ok, torch.zeros((), dtype=x.dtype), torch.full((), neg, dtype=x.dtype))
        rope = s.rope(position_ids, x.dtype)
        kvs = []
        for i, b in enumerate(s.layers):
            pk, pv = (past[2 * i], past[2 * i + 1]) if past else (None, None)
            x, k, v = b(x, rope, bias, pk, pv, position_ids)
            kvs += [k, v]
        return (s.lm_head(s.norm(x[:, -1:])), *kvs)


FAMILIES = {  # small (default) and full-width: hidden, heads, kv heads, intermediate, head_dim
    "llama2": ((1024, 16, 16, 2752, None), (4096, 32, 32, 11008, None)),
    "qwen2": ((1024, 16, 4, 4864, None), (3584, 28, 4, 18944, None)),
    "qwen3": ((1024, 16, 8, 3072, 128), (4096, 32, 8, 12288, 128)),
    "baichuan2_7b": ((1024, 16, 16, 2752, None), (4096, 32, 32, 11008, None)),
    "baichuan2_13b": ((1280, 20, 20, 3424, None), (5120, 40, 40, 13696, None)),
    "chatglm": ((1024, 16, 16, 4096, None), (4096, 32, 32, 16384, None)),
    "chatglm2": ((1024, 16, 2, 3424, None), (4096, 32, 2, 13696, None)),
}


def llm_case(family, phase, dtype, a):
    h, nh, nkv, inter, hd = FAMILIES[family][1 if a.full_width else 0]
    layers = a.layers or (1 if a.full_width else 4)
    c = Cfg(family, h, layers, nh, nkv, inter, a.vocab, hd)
    S, P = (a.seq, 0) if phase == "prefill" else (1, a.past)
    m = init_weights(Decoder(c, P), seed_of(family))  # prefill and decode share their weights
    if family.startswith("baichuan2"):  # NormHead: rows of the head are unit vectors at inference
        with torch.no_grad():
            m.lm_head.weight.copy_(F.normalize(m.lm_head.weight))
    m = m.to(dtype)
    g = torch.Generator().manual_seed(seed_of(family + phase))
    ids = torch.randint(0, c.vocab, (1, S), generator=g)
    mask = torch.ones(1, P + S, dtype=torch.int64)
    pos = torch.arange(P, P + S)[None]
    if family == "chatglm":  # position stops at the mask token, block position counts on
        n = P + S
        p1 = torch.arange(n).clamp(max=max(n // 2, 1))
        p2 = (torch.arange(n) - n // 2).clamp(min=0)
        pos = torch.stack((p1, p2))[None][:, :, P:]
    args = [ids, mask, pos]
    names = ["input_ids", "attention_mask", "position_ids"]
    outs = ["logits"]
    for i in range(layers):
        outs += [f"present_k{i}", f"present_v{i}"]
        if P:
            args += [torch.randn(1, c.kv, P, c.hd, generator=g).to(dtype) for _ in "kv"]
            names += [f"past_k{i}", f"past_v{i}"]
    wpl = sum(p.numel() for n, p in m.named_parameters() if n.startswith("layers") and p.dim() > 1)
    fl = 2 * S * wpl + 2 * c.hidden * c.vocab + 4 * layers * nh * c.hd * S * (P + S)
    by = sum(p.numel() * p.element_size() for n, p in m.named_parameters() if not n.startswith("embed"))
    by += sum(t.numel() * t.element_size() for t in args[3:])
    return m, tuple(args), names, outs, dict(flops=fl, bytes=by, config=vars(c) | dict(seq=S, past=P))


# --------------------------------------------------------------------------- subgraphs and kernels
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


# --------------------------------------------------------------------------- registry
def registry(a):
    """name -> (group, builder). A builder returns (module, args, input names, output names, info)."""
    reg = {}

    def torch_case(name, group, mk):
        reg[name] = (group, mk)

    def gen(name):
        return torch.Generator().manual_seed(seed_of(name))

    img = lambda n: torch.randn(1, 3, 224, 224, generator=gen(n))
    torch_case("resnet50", "cnn", lambda: (init_weights(ResNet50(), seed_of("resnet50")), (img("resnet50"),), ["x"], ["logits"], dict(flops=int(8.2e9))))
    torch_case("mobilenet_v2", "cnn", lambda: (init_weights(MobileNet(2), seed_of("mobilenet_v2")), (img("mobilenet_v2"),), ["x"], ["logits"], dict(flops=int(0.60e9))))
    torch_case("mobilenet_v3_large", "cnn", lambda: (init_weights(MobileNet(3), seed_of("mobilenet_v3")), (img("mobilenet_v3"),), ["x"], ["logits"], dict(flops=int(0.44e9))))
    for n, (net, flops) in CONCAT_NETS.items():
        torch_case(n, "concat", lambda n=n, net=net, flops=flops: (init_weights(net(), seed_of(n)).eval(), (img(n),), ["x"], ["logits"], dict(flops=flops)))

    def bert():
        g = gen("bert")
        S = 128
        x = (torch.randint(0, 30522, (1, S), generator=g), torch.cat((torch.ones(1, 100), torch.zeros(1, 28)), 1).long(), torch.zeros(1, S, dtype=torch.int64))
        fl = 12 * (2 * S * (4 * 768 * 768 + 2 * 768 * 3072) + 4 * S * S * 768)
        return init_weights(Bert(), seed_of("bert")), x, ["input_ids", "attention_mask", "token_type_ids"], ["hidden", "pooled"], dict(flops=fl)

    torch_case("bert_base_s128", "bert", bert)
    sfx = "_full" if a.full_width else ""
    for f in FAMILIES:
        for ph in ("prefill", "decode"):
            for d in ("fp32", "fp16", "bf16"):
                torch_case(f"{f}{sfx}_{ph}_{d}", "llm", lambda f=f, ph=ph, d=d: llm_case(f, ph, DT[d], a))
    for n, mk in sub_cases().items():
        def b(n=n, mk=mk):
            m, x = mk(gen(n))
            return m, x, [f"x{i}" for i in range(len(x))], None, {}
        torch_case("sub_" + n, "sub", b)
    for m_ in (1, 16, 128, 512):
        for k, n in MM_KN:
            for d in ("fp32", "bf16", "fp16"):
                nm = f"mm_m{m_}_k{k}_n{n}" + ("" if d == "fp32" else "_" + d)
                def b(nm=nm, m_=m_, k=k, n=n, d=d):
                    m, x, i = mm_case(m_, k, n, DT[d], gen(nm))
                    return m, x, ["x"], ["y"], i
                torch_case(nm, "kernel", b)
    for n, sp in CONVS.items():
        def b(n=n, sp=sp):
            m, x, i = conv_case(sp, gen(n))
            return m, x, ["x"], ["y"], i
        torch_case(n, "kernel", b)
    for n, sp in ATTNS.items():
        for d in ("fp32", "bf16"):
            nm = n + ("" if d == "fp32" else "_" + d)
            def b(nm=nm, sp=sp, d=d):
                m, x, i = attn_case(sp, DT[d], gen(nm))
                return m, x, ["q", "k", "v"], ["o"], i
            torch_case(nm, "kernel", b)
    for ops, seeds in ((100, range(4)), (1000, range(4)), (4000, range(1))):
        for s in seeds:
            reg[f"dag_{ops}_s{s}"] = ("dag", (lambda ops=ops, s=s: ("dag", random_dag(ops, 1000 * ops + s))))
    return reg


def torch_case(name, **kw):
    """The torch module and arguments of a case (None for DAGs): used by peers.py for eager and inductor."""
    ns = dict(full_width="_full" in name, layers=None, vocab=4096, seq=512, past=512)
    ns.update({k: v for k, v in kw.items() if v})
    r = registry(argparse.Namespace(**ns)).get(name)
    if r is None or r[0] == "dag":
        return None
    m, args, *_ = r[1]()
    return m, args


# --------------------------------------------------------------------------- writing a case
def to_np(t):
    t = t.detach()
    if t.dtype == torch.bfloat16:
        return t.contiguous().view(torch.uint16).numpy(), "bfloat16"
    return t.numpy(), str(t.numpy().dtype)


def write_case(name, group, mk, out, gargs):
    import onnx, onnxruntime as ort

    d = os.path.join(out, name)
    if os.path.exists(d + "/meta.json") and not gargs.force:
        return "kept"
    os.makedirs(d, exist_ok=True)
    path = d + "/model.onnx"
    built = mk()
    meta = dict(case=name, group=group, opset=OPSET, inputs=[], outputs=[], layers=gargs.layers, vocab=gargs.vocab, seq=gargs.seq, past=gargs.past)
    if built[0] == "dag":
        model, ins, ref, info = built[1]
        onnx.save(model, path)
        in_np = [(x, "float32") for x in ins]
        ref_np = [(r, "float32") for r in ref]
        meta.update(info)
        meta["reference"] = "float64 evaluation, rounded to float32"
        tref = None
        tol = 1e-3
    else:
        mod, args, names, outs, info = built
        dt = next((t.dtype for t in list(mod.parameters()) + list(mod.buffers()) + [x for x in args if x.is_floating_point()] if t.is_floating_point()), torch.float32)
        with torch.no_grad():
            prog = torch.onnx.export(mod, args, dynamo=True, opset_version=OPSET, input_names=names, output_names=outs, verbose=False, optimize=True)
        model = prog.model_proto
        meta.update({k: v for k, v in info.items() if k != "config"})
        if "config" in info:
            meta["config"] = info["config"]
        big = sum(p.numel() * p.element_size() for p in list(mod.parameters()) + list(mod.buffers())) > 1.5e9
        if big:
            onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
        else:
            onnx.save(model, path)
        in_np = [to_np(t) for t in args]
        tol = 1e-3 if dt == torch.float32 else 3e-2
        with torch.no_grad():
            r = mod(*args) if dt == torch.float32 else _fp32_ref(mod, args)
        tref = [t.float().numpy() for t in (r if isinstance(r, tuple) else (r,))]
        ref_np = None
    gi = [i for i in model.graph.input]
    go = [o for o in model.graph.output]
    keep = {i.name for i in gi}
    # an input that the exporter dropped (unused) is dropped from the feeds too
    if built[0] != "dag" and len(gi) != len(in_np):
        in_np = [x for x, n in zip(in_np, names) if n in keep]
    for i, (x, dt_) in enumerate(in_np):
        np.save(f"{d}/input_{i}.npy", x)
        meta["inputs"].append(dict(name=gi[i].name, dtype=dt_, shape=list(x.shape)))
    try:
        so = ort.SessionOptions()
        so.log_severity_level = 3
        s = ort.InferenceSession(path, so, providers=["CPUExecutionProvider"])
        if any(dt_ == "bfloat16" for _, dt_ in in_np):
            raise RuntimeError("bf16 feeds")
        got = s.run(None, {gi[i].name: x for i, (x, _) in enumerate(in_np)})
        meta["onnxruntime"] = ort.__version__
    except Exception as e:
        got = None
        meta["onnxruntime_error"] = str(e).split("\n")[0][:200]
    if got is not None and tref is not None:
        meta["ort_vs_torch_max_abs"] = max(float(np.abs(np.asarray(a, np.float32) - b).max()) if a.size else 0.0 for a, b in zip(got, tref))
    if got is not None and built[0] == "dag":
        meta["ort_vs_fp64_max_abs"] = max(float(np.abs(a - b[0]).max()) for a, b in zip(got, ref_np))
    if built[0] != "dag":
        if got is not None and dt == torch.float32:
            ref_np = [(np.asarray(x), str(np.asarray(x).dtype)) for x in got]
            meta["reference"] = "onnxruntime"
        else:
            ref_np = [(x, "float32") for x in tref]
            meta["reference"] = "torch in float32 with the rounded weights"
    for i, (x, dt_) in enumerate(ref_np):
        assert np.isfinite(x).all(), f"{name}: output {i} is not finite"
        np.save(f"{d}/output_{i}.npy", x)
        meta["outputs"].append(dict(name=go[i].name, dtype=dt_, shape=list(x.shape)))
    meta["tolerance"] = tol  # on max|a-b| / max|b|
    meta["nodes"] = len(model.graph.node)
    meta["model_bytes"] = sum(os.path.getsize(os.path.join(d, f)) for f in os.listdir(d) if f in ("model.onnx", "weights.bin"))
    json.dump(meta, open(d + "/meta.json", "w"), indent=1, default=str)
    return f"{meta['nodes']} nodes, {meta['model_bytes'] / 1e6:.0f} MB"


def _fp32_ref(mod, args):
    """the module in float32 with weights and inputs that were rounded to 16 bits first"""
    return mod.float()(*[a.float() if a.is_floating_point() else a for a in args])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="cases")
    p.add_argument("--only", nargs="*", default=["*"], help="shell patterns of case names")
    p.add_argument("--group", nargs="*", default=None)
    p.add_argument("--list", action="store_true")
    p.add_argument("--force", action="store_true", help="write again what is already there")
    p.add_argument("--full-width", action="store_true", help="LLM cases at their real 7B/13B layer width (names get _full)")
    p.add_argument("--layers", type=int, default=None, help="LLM layers (default 4; 1 with --full-width)")
    p.add_argument("--vocab", type=int, default=4096)
    p.add_argument("--seq", type=int, default=512, help="prefill length")
    p.add_argument("--past", type=int, default=512, help="KV-cache length of the decode graphs")
    a = p.parse_args()
    reg = registry(a)
    sel = [n for n, (g, _) in reg.items() if any(fnmatch.fnmatch(n, q) for q in a.only) and (not a.group or g in a.group)]
    if a.list:
        for n in sel:
            print(f"{reg[n][0]:7s} {n}")
        return
    bad = 0
    for n in sel:
        t = time.time()
        try:
            r = write_case(n, reg[n][0], reg[n][1], a.out, a)
        except Exception as e:
            bad += 1
            r = "FAILED " + repr(e)[:300]
        print(f"{n:40s} {time.time() - t:6.1f}s  {r}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
