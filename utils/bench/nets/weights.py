"""Seeded weights at a realistic scale, the same in every run, and the norm that torch has no initialised form of."""
import math, zlib

import torch
import torch.nn as nn


class RMSNorm(nn.Module):
    def __init__(s, n, eps=1e-6):
        super().__init__()
        s.weight, s.eps = nn.Parameter(torch.ones(n)), eps

    def forward(s, x):
        f = x.float()
        f = f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + s.eps)
        return s.weight * f.to(x.dtype)


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
