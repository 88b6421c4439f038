"""Decoders of seven families of language models, for a prompt or for a token with its cache."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from nets.weights import RMSNorm, init_weights, seed_of


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
