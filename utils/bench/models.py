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
import argparse, fnmatch, json, logging, os, sys, time, warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np
import torch

from dags import random_dag
from nets.bert import Bert
from nets.cnn import MobileNet, ResNet50
from nets.concat import CONCAT_NETS
from nets.kernels import ATTNS, CONVS, DT, MM_KN, attn_case, conv_case, mm_case
from nets.llm import FAMILIES, Cfg, Decoder, alibi_slopes, llm_case  # noqa: F401 some are for peers.py and dynamic.py
from nets.subgraphs import sub_cases
from nets.weights import init_weights, seed_of

OPSET = 18


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
