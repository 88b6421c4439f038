#!/usr/bin/env python3
"""The table of docs/models.md from the logs of the models group: models_table.py build/full/COMMIT

A row is a unit: its element type, its shapes, and the largest max|a-b| / max|b| over all sizes and outputs against the oracle
(onnxruntime, or what the log names instead) and against dlc's interpreter."""
import glob
import os
import re
import sys

LINE = re.compile(r"([0-9.]+e[+-][0-9]+) against ((?:the )?interpreter|onnxruntime|torch in float32|float64 evaluation)")
SHAPE = re.compile(r"^\S+(?: on aarch64)?: ((?:\w+ \d+(?:, )?)+):", re.M)
KIND = {"torch in float32": "torch, f32", "float64 evaluation": "f64"}


def row(path):
    """(unit, cells) of one log; None for a log without figures."""
    unit = os.path.basename(path)[len("models."):-len(".log")]
    with open(path, errors="replace") as file:
        text = file.read()
    if unit.startswith("quant_"):
        ranges = dict((name, f"{low} to {high}") for low, high, name in re.findall(r"(\S+e\S+) to (\S+e\S+) against (onnxruntime|interpreter)$", text, re.M))
        return (unit, ["int8", "fixed, 8 inputs", ranges.get("onnxruntime", "-"), ranges.get("interpreter", "-")]) if ranges else None
    worst = {}
    for line in text.splitlines():
        if "by the interpreter" in line:  # the interpreter itself against the oracle
            continue
        for number, name in LINE.findall(line):
            name = name.removeprefix("the ")
            # With -fp=strict: the comparison that counts where the written order loses digits.
            worst[name] = float(number) if "strict" in line else max(worst.get(name, 0), float(number))
    if not worst:
        return None
    dtype = next((each for each in ("bf16", "fp16") if unit.endswith(each)), "f32")
    shapes = SHAPE.findall(text)
    sizes = f"{len(shapes)} sizes" if shapes else "fixed"
    interpreter = worst.pop("interpreter", None)
    cells = [f"{value:.1e}" + (f" ({KIND[name]})" if name in KIND else "") for name, value in worst.items()]
    return unit, [dtype, sizes, ", ".join(cells), f"{interpreter:.1e}" if interpreter is not None else "-"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("| unit | type | shapes | against onnxruntime | against the interpreter |\n|---|---|---|---|---|")
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "models.*.log"))):
        if found := row(path):
            print(f"| {found[0]} | " + " | ".join(found[1]) + " |")


if __name__ == "__main__":
    main()
