#!/usr/bin/env python3
"""Generates tokens with an ONNX decoder that dlc compiles, the cache of keys and values kept inside the model.

    PYTHONPATH=build/python python examples/llm/generate.py model.onnx --prompt=1,2,3 --tokens=64
    PYTHONPATH=build/python python examples/llm/generate.py                     # a small decoder with random weights

A decoder has outputs that are Concat of an input and new rows along a symbolic axis (past_key_values.N.key and
present.N.key, whatever they are called), one more output with the logits [batch, seq, vocab], and inputs of integers:
token ids, and if it has them positions and a mask. Tokens are numbers here: bring the tokenizer of your model.
"""

import argparse
import os
import sys
import time

import numpy as np

import dlc

# What exporters call the inputs that are not caches.
ROLES = {"ids": ("input_ids", "tokens"), "positions": ("position_ids", "cache_position"), "mask": ("attention_mask",)}


class Decoder:
    """A compiled decoder and its cache.

    model: a dlc.Model compiled with state=..., whose inputs have the roles of ROLES (or as `names` {role: input} says).
    """

    def __init__(self, model, names=None):
        self.model = model
        if not model.info["states"]:
            raise ValueError("the model keeps no cache: compile it with state='auto'")
        self.roles = {}
        for tensor in model.inputs:
            role = next((r for r, known in ROLES.items() if tensor["name"] in (names or {}).get(r, known)), None)
            if role is None:
                raise ValueError(f"input '{tensor['name']}' {tensor['shape']} is neither ids, positions nor mask: name its role")
            self.roles[role] = tensor
        if "ids" not in self.roles:
            raise ValueError("the model has no input of token ids")
        length = self.roles["ids"]["shape"][1]
        self.most_at_once = length if isinstance(length, int) else None
        self.logits = next(i for i, t in enumerate(model.outputs) if len(t["shape"]) == 3)

    @property
    def length(self):
        """Tokens in the cache."""
        return self.model.state_length

    def feed(self, ids):
        """Appends tokens (int64 [batch, n]) to the cache; returns the logits of the last one, float32 [batch, vocab]."""
        ids = np.asarray(ids, np.int64)
        batch, count = ids.shape
        past = self.length
        feeds = {self.roles["ids"]["name"]: ids}
        if "positions" in self.roles:
            positions = np.arange(past, past + count, dtype=np.int64)
            one = len(self.roles["positions"]["shape"]) == 1
            feeds[self.roles["positions"]["name"]] = positions if one else np.tile(positions, (batch, 1))
        if "mask" in self.roles:
            feeds[self.roles["mask"]["name"]] = np.ones((batch, past + count), self.roles["mask"]["dtype"])
        return self.model.run(feeds)[self.logits][:, -1].astype(np.float32)

    def prefill(self, ids, chunk=256, progress=None):
        """Feeds a prompt in pieces of at most `chunk` tokens, which bounds the memory of a run; returns as feed does."""
        ids = np.asarray(ids, np.int64)
        chunk = min(chunk, self.most_at_once or chunk)
        logits = None
        for begin in range(0, ids.shape[1], chunk):
            logits = self.feed(ids[:, begin : begin + chunk])
            if progress:
                progress(min(begin + chunk, ids.shape[1]))
        return logits


def greedy(logits):
    """The most likely token of each row: int64 [batch]."""
    return logits.argmax(-1).astype(np.int64)


class TopP:
    """Draws from the fewest tokens that together have probability `p`, at `temperature`; the same seed, the same draws."""

    def __init__(self, p=0.9, temperature=1.0, seed=0):
        if not 0 < p <= 1 or temperature <= 0:
            raise ValueError(f"p is {p} (0 < p <= 1), temperature {temperature} (> 0)")
        self.p, self.temperature, self.random = p, temperature, np.random.default_rng(seed)

    def __call__(self, logits):
        tokens = []
        for row in logits.astype(np.float64):
            order = np.argsort(-row, kind="stable")
            weights = np.exp((row[order] - row[order[0]]) / self.temperature)
            weights /= weights.sum()
            # The first token whose sum reaches p is still among them.
            count = min(int(np.searchsorted(np.cumsum(weights), self.p)) + 1, len(order))
            kept = weights[:count] / weights[:count].sum()
            tokens.append(order[min(int(np.searchsorted(np.cumsum(kept), self.random.random(), side="right")), count - 1)])
        return np.array(tokens, np.int64)


def generate(decoder, prompt, tokens, sample=greedy, chunk=256, end=None, on_prefill=None, on_token=None):
    """Feeds the prompt (int64 [batch, n], n > 0), then samples up to `tokens` tokens: int64 [batch, at most tokens].

    end: a token at which a batch of one stops. on_prefill(done) and on_token(token of each row) are told of progress.
    """
    logits = decoder.prefill(prompt, chunk, on_prefill)
    out = []
    while len(out) < tokens:
        out.append(sample(logits))
        if on_token:
            on_token(out[-1])
        if len(out) == tokens or (end is not None and len(out[-1]) == 1 and out[-1][0] == end):
            break
        logits = decoder.feed(out[-1][:, None])
    return np.stack(out, 1) if out else np.zeros((len(prompt), 0), np.int64)


def compile_decoder(model, longest=None, typical=None, **flags):
    """Compiles a decoder (a path or a ModelProto) with its caches inside.

    longest: most tokens there may be in the cache; None: no bound. typical: how many there are most often.
    """
    import onnx

    proto = onnx.load(model, load_external_data=False) if isinstance(model, (str, os.PathLike)) else model
    outputs = {o.name for o in proto.graph.output}
    makers = {o: n for n in proto.graph.node for o in n.output}
    dims = {}
    for tensor in proto.graph.input:  # the dim along which an output appends to it
        for name in outputs:
            node = makers.get(name)
            if node is None or node.op_type != "Concat" or node.input[0] != tensor.name or longest is None:
                continue
            shape = tensor.type.tensor_type.shape.dim
            axis = next(a.i for a in node.attribute if a.name == "axis")
            if shape[axis].dim_param:
                dims[shape[axis].dim_param] = (0, longest, typical or min(longest, 512))
    return dlc.compile(model, state="auto", dims=dims, **flags)


def add_options(parser):
    """What programs that generate are told: the model, how much, and how to sample."""
    parser.add_argument("model", nargs="?", help=".onnx, or an artifact compiled with -state (.so); none: a small random one")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to generate, of each sequence")
    parser.add_argument("--chunk", type=int, default=256, help="tokens of a prompt that are fed at once")
    parser.add_argument("--kv", choices=("asis", "int8", "int4", "int2"), default="asis", help="how the cache holds numbers")
    parser.add_argument("--top-p", type=float, help="sample from the most likely tokens; default: the most likely one")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--end", type=int, help="token at which a sequence stops")
    parser.add_argument("--threads", type=int, default=0)


def make_sampler(options):
    """Of the parsed options."""
    return greedy if options.top_p is None else TopP(options.top_p, options.temperature, options.seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--prompt", help="token ids with commas, or a number of random ones: random:512", default="random:16")
    parser.add_argument("--longest", type=int, help="most tokens in the cache")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the tokens alone")
    options = parser.parse_args()

    say = (lambda *text: None) if options.quiet else (lambda *text: print(*text, file=sys.stderr, flush=True))
    start = time.monotonic()
    if options.model and options.model.endswith(".so"):
        model = dlc.load(options.model, threads=options.threads)
    else:
        source = options.model
        if source is None:
            from decoder import make_decoder

            source = make_decoder()
        model = compile_decoder(source, options.longest, kv=options.kv, threads=options.threads)
    decoder = Decoder(model)
    say(f"compiled in {time.monotonic() - start:.1f} s; caches: {', '.join(s['name'] for s in model.info['states'])}")

    vocabulary = model.outputs[decoder.logits]["shape"][2]
    if options.prompt.startswith("random:"):
        highest = vocabulary if isinstance(vocabulary, int) else 100
        prompt = np.random.default_rng(options.seed).integers(0, highest, (1, int(options.prompt[7:])))
    else:
        prompt = np.array([[int(t) for t in options.prompt.split(",")]], np.int64)
    sample = make_sampler(options)

    times = [time.monotonic()]

    def on_prefill(done):
        seconds = time.monotonic() - times[0]
        say(f"prompt: {done} of {prompt.shape[1]} tokens, {done / max(seconds, 1e-9):.1f} tokens/s")

    def on_token(token):
        times.append(time.monotonic())
        print(int(token[0]), end=" ", flush=True)
        if len(times) % 32 == 2 and len(times) > 2:
            say(f"[{len(times) - 1} tokens, {(len(times) - 2) / (times[-1] - times[1]):.1f} tokens/s]")

    out = generate(decoder, prompt, options.tokens, sample, options.chunk, options.end, on_prefill, on_token)
    print()
    if len(times) > 2:
        say(f"decode: {out.shape[1]} tokens, {(len(times) - 2) / (times[-1] - times[1]):.1f} tokens/s; "
            f"cache: {decoder.length} tokens, {model.state_bytes} bytes")


if __name__ == "__main__":
    main()
