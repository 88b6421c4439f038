#!/usr/bin/env python3
"""Cases compiled with other options beside the default: variant.py [case ...] [--threads 1] [--rounds 15] -- <options of dlc>

Run by `utils/bench-x86 --variant`, for instance

    utils/bench-x86 --variant resnet50 bert_base_s128 mobilenet_v2 -- -tune -tune-budget=10m -tuning-db=t.db
    utils/bench-x86 --variant resnet50 bert_base_s128 -- -precision=auto:max-error=1e-3

Compiles each case by default and with the options, and runs default, variant and the default again in turns. Prints a Markdown
table: median milliseconds, the median over the rounds of default / variant (above 1: the variant is faster) and of default /
default (A/A: what this machine cannot tell apart, with the range of 80 of 100 rounds), the largest difference of outputs over
their largest value, and what the variant's report says. `{inputs}` in an option is replaced by the case's input files,
comma-separated. Exits 1 when outputs differ by more than --tolerance."""
import argparse
import os
import sys
import time

import numpy as np

import compare
from fusion import differ, load_inputs


def run_in_turns(models, feeds, rounds):
    """Milliseconds of each model, [round][model], and the outputs of each."""
    outputs = [model.run(feeds) for model in models]
    for model in models:
        model.run(feeds)
    times = []
    for turn in range(rounds):
        # The one that begins changes: what comes first after others is slower.
        row = [0.0] * len(models)
        for k in range(len(models)):
            i = (turn + k) % len(models)
            start = time.perf_counter()
            models[i].run(feeds)
            row[i] = (time.perf_counter() - start) * 1e3
        times.append(row)
    return np.array(times), outputs


def remark_of(report):
    """What a report says of tuning and of precision, in words."""
    said = []
    if tuning := report.get("tuning"):
        said.append(f"{tuning['tuned']} of {tuning['kernels']} kernels have a schedule, {tuning['measured']} measured, {tuning['failed']} failed")
    if precision := report.get("precision"):
        said.append(", ".join(f"{key} {value}" for key, value in precision.items() if not isinstance(value, (list, dict))))
    return "; ".join(said)


def main():
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet50", "bert_base_s128", "mobilenet_v2"], help="cases")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--cases", default=os.path.join(compare.ROOT, "cases"), help="folder of the cases")
    parser.add_argument("--keep", help="folder where artifacts stay: what is there is not compiled again")
    settings, options = parser.parse_args(arguments[:cut]), arguments[cut + 1:]
    if not options:
        parser.error("no options of dlc after --: the variant would be the default")
    os.environ["DLC_NUM_THREADS"] = str(settings.threads)
    import dlc

    compare.make_cases(settings.names, settings.cases)
    bad = 0
    print("| case | default ms | variant ms | default / variant | A/A (80 of 100) | difference | compiled in s | |\n|---|---|---|---|---|---|---|---|")
    for name in settings.names:
        folder = os.path.join(settings.cases, name)
        files = ",".join(os.path.join(folder, file) for file in sorted(os.listdir(folder)) if file.startswith("input_"))
        mine = [option.replace("{inputs}", files) for option in options]
        target = f"host:threads={settings.threads}"

        def make(kind, more):
            if not settings.keep:
                return dlc.compile(os.path.join(folder, "model.onnx"), target, options=more)
            path = os.path.join(settings.keep, f"{name}-{kind}.so")
            if os.path.exists(path):
                return dlc.load(path)
            os.makedirs(settings.keep, exist_ok=True)
            return dlc.compile(os.path.join(folder, "model.onnx"), target, output=path, emit="shared,header,report", options=more)

        models = [make("default", [])]
        start = time.perf_counter()
        models.append(make("variant", mine))
        seconds = time.perf_counter() - start
        models.append(make("again", []))
        times, outputs = run_in_turns(models, load_inputs(folder, models[0]), settings.rounds)
        ratio, same = times[:, 0] / times[:, 1], times[:, 0] / times[:, 2]
        wrong = max(differ(a, b) for a, b in zip(outputs[1], outputs[0]))
        bad += wrong > settings.tolerance
        medians, low, high = np.median(times, axis=0), *np.quantile(same, [0.1, 0.9])
        print(f"| {name} | {medians[0]:.3f} | {medians[1]:.3f} | {np.median(ratio):.3f} | {np.median(same):.3f} ({low:.3f}-{high:.3f}) | "
              f"{wrong:.1e} | {seconds:.0f} | {remark_of(models[1].report)} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
