"""Several sequences of an ONNX decoder at once, their keys and values in pages of one pool that the model keeps.

    PYTHONPATH=build/python python examples/llm/paged.py model.onnx --prompt="1,2,3;4,5" --tokens=64
    PYTHONPATH=build/python python examples/llm/paged.py                     # a small decoder with random weights

Such a decoder takes the tokens of all sequences one after the other (ids [tokens]), where each sequence's begin and end
(int32 [sequences + 1]), how many tokens it has in the cache (int32 [sequences]) and a table of its pages (int32
[sequences, pages]): the inputs of com.microsoft.PagedAttention. Its caches [pages, positions, heads, width] go in and come
out: compiled with state="auto" they stay inside, and a run writes the new rows in their places. Logits are [tokens, vocab].
"""

import argparse
import sys
import time

import numpy as np

import dlc

# What exporters call the inputs that are not caches.
ROLES = {"ids": ("input_ids", "tokens"), "ends": ("cumulative_sequence_length",), "past": ("past_seqlens",), "table": ("block_table",)}


class PagedDecoder:
    """A compiled decoder, the sequences that are in its caches and the pages that each of them has.

    model: a dlc.Model compiled with state=..., whose inputs have the roles of ROLES (or as `names` {role: input} says).
    Pages are given to a sequence when its tokens need them. Where the model leaves the number of pages open, the pool
    begins with `first` of them and doubles when they are all in use.
    """

    def __init__(self, model, names=None, first=16):
        self.model = model
        pools = [s for s in model.info["states"] if s["in_place"]]
        if not pools:
            raise ValueError("the model keeps no pool of pages: compile it with state='auto'")
        self.inputs = {}
        for role, known in ROLES.items():
            found = [t for t in model.inputs if t["name"] in (names or {}).get(role, known)]
            if len(found) != 1:
                raise ValueError(f"the model has no input of {role} ({', '.join(known)}): name it")
            self.inputs[role] = found[0]
        self.positions = pools[0]["shape"][1]
        self.is_open = not isinstance(pools[0]["shape"][0], int)
        self.pages = 0  # in the pool
        self.first = first if self.is_open else pools[0]["shape"][0]
        self.unused = []
        self.tables, self.lengths = {}, {}
        self.logits = next(i for i, t in enumerate(model.outputs) if len(t["shape"]) == 2)

    def _page(self):
        if not self.unused:
            if self.pages and not self.is_open:
                raise MemoryError(f"all {self.pages} pages are in use")
            more = self.pages or self.first
            if self.is_open:
                self.model.reserve(self.pages + more)
            self.unused = list(range(self.pages + more - 1, self.pages - 1, -1))
            self.pages += more
        return self.unused.pop()

    def begin(self):
        """A new sequence, without tokens: its number."""
        number = next(n for n in range(len(self.tables) + 1) if n not in self.tables)
        self.tables[number], self.lengths[number] = [], 0
        return number

    def end(self, sequence):
        """Forgets a sequence; others may have its pages."""
        self.unused += self.tables.pop(sequence)
        del self.lengths[sequence]

    def feed(self, new):
        """Appends tokens to sequences, {number: ids}, at least one each; returns {number: logits behind the last one, float32 [vocab]}."""
        ids = [np.asarray(i, np.int64).reshape(-1) for i in new.values()]
        if not ids or any(len(i) == 0 for i in ids):
            raise ValueError("every sequence needs a token")
        for sequence, each in zip(new, ids):
            table = self.tables[sequence]
            while len(table) * self.positions < self.lengths[sequence] + len(each):
                table.append(self._page())
        ends = np.concatenate([[0], np.cumsum([len(i) for i in ids])])
        table = np.full((len(new), max(len(self.tables[s]) for s in new)), -1)
        for row, sequence in zip(table, new):
            row[: len(self.tables[sequence])] = self.tables[sequence]
        values = {"ids": np.concatenate(ids), "ends": ends, "past": np.array([self.lengths[s] for s in new]), "table": table}
        feeds = {t["name"]: values[role].astype(t["dtype"]) for role, t in self.inputs.items()}
        logits = self.model.run(feeds)[self.logits]
        for sequence, each in zip(new, ids):  # a run that fails counts for nothing
            self.lengths[sequence] += len(each)
        return {s: logits[end - 1].astype(np.float32) for s, end in zip(new, ends[1:])}


def generate(decoder, prompts, tokens, sample, chunk=256, end=None, on_tokens=None):
    """Feeds each prompt (ids) in pieces of at most `chunk`, then samples up to `tokens` tokens of each, side by side: a list of lists.

    A sequence stops at token `end`, which frees its pages. on_tokens(n) is told how many tokens a step made.
    """
    logits, numbers = {}, {}
    for i, prompt in enumerate(prompts):
        number = decoder.begin()
        numbers[number] = i
        for start in range(0, len(prompt), chunk):
            logits.update(decoder.feed({number: prompt[start : start + chunk]}))
    out = [[] for _ in prompts]
    while logits:
        drawn = {n: int(sample(row[None])[0]) for n, row in logits.items()}
        if on_tokens:
            on_tokens(len(drawn))
        for number, token in drawn.items():
            out[numbers[number]].append(token)
        going = {}
        for number, token in drawn.items():
            if len(out[numbers[number]]) == tokens or token == end:
                decoder.end(number)
            else:
                going[number] = [token]
        logits = decoder.feed(going) if going else {}
    return out


def main():
    from generate import add_options, make_sampler

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--prompt", default="1,2,3;4,5,6,7,8;9", help="token ids with commas, sequences with semicolons")
    options = parser.parse_args()

    if options.model and options.model.endswith(".so"):
        model = dlc.load(options.model, threads=options.threads)
    else:
        source = options.model
        if source is None:
            from decoder import make_decoder

            source = make_decoder(page=16)
        model = dlc.compile(source, state="auto", kv=options.kv, threads=options.threads)
    decoder = PagedDecoder(model)
    prompts = [[int(t) for t in each.split(",")] for each in options.prompt.split(";")]
    sample = make_sampler(options)
    start, count = time.monotonic(), []
    for line in generate(decoder, prompts, options.tokens, sample, options.chunk, options.end, count.append):
        print(*line)
    seconds = time.monotonic() - start
    print(f"{sum(count)} tokens of {len(prompts)} sequences, {sum(count) / seconds:.1f} tokens/s; "
          f"pool: {decoder.pages} pages of {decoder.positions} positions, {model.state_bytes} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
