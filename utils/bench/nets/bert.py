"""The encoder of BERT, with its pooled output."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


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
