#!/usr/bin/env python3
"""Writes docs/supported-ops.md from `dlc -list-ops` and onnx's schemas.

    utils/supported-ops.py build/bin/dlc           # writes the page
    utils/supported-ops.py build/bin/dlc --check   # exit 1 when the page is stale
"""
import difflib
import os
import re
import subprocess
import sys

import onnx.defs

PAGE = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "supported-ops.md"))
GROUPS = {"floats": ["float16", "bfloat16", "float", "double"], "ints": ["int8", "int16", "int32", "int64"],
          "uints": ["uint8", "uint16", "uint32", "uint64"], "bool": ["bool"]}
NARROW = ["float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float6e2m3", "float6e3m2",
          "float4e2m1", "int4", "uint4", "int2", "uint2"]
HOW = {"own": "", "sizes": "sizes only", "function body": "by its function body", "refused": "**refused**"}
HEAD = """# Supported operators

Made by `utils/supported-ops.py` from `dlc -list-ops` and the schemas of onnx {version}; a test fails when it is stale.

- **Opsets**: files of opset 1 to {opset} are taken; each node is converted to opset {opset} first, or
  refused where that would change its meaning. The column lists the versions
  in which the operator changed.
- **Elements**: floats are f16, bf16, f32, f64; ints i8 to i64; uints u8 to u64; narrow are f8 (E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ,
  E8M0FNU), f6 (E2M3FN, E3M2FN), f4 (E2M1FN), i4, ui4, i2 and ui2. Strings and complex numbers are refused everywhere.
- **Limits**: none beyond these unless the column says so. Sizes that only the data tell need a bound that the operands' shapes give
  ([frontend](frontend.md)). What is refused is named with its node, operator, opset, type, shape and reason.

{counts}
"""


def list_ops(dlc):
    """[(name, how, takes narrow types, limits)]"""
    text = subprocess.run([dlc, "-list-ops"], check=True, capture_output=True, text=True).stdout
    rows = []
    for line in text.splitlines():
        name, rest = line[:45].strip(), line[46:]
        how = next(h for h in HOW if rest.startswith(h))
        narrow = rest[len(how):].startswith(", narrow")
        rows.append((name, how, narrow, rest[len(how) + len(", narrow") * narrow:].strip()))
    return rows


def describe_types(schema, narrow):
    """The element types of all operands that dlc has too."""
    types = set()
    for constraint in schema.type_constraints:
        for text in constraint.allowed_type_strs:
            types.update(re.findall(r"tensor\(([a-z0-9]+)\)", text))
    for formal in list(schema.inputs) + list(schema.outputs):
        types.update(re.findall(r"tensor\(([a-z0-9]+)\)", formal.type_str))
    words = []
    for group, members in GROUPS.items():
        have = [t for t in members if t in types]
        words += [group] if have == members else have
    if narrow:
        have = [t for t in NARROW if t in types]
        words += ["narrow"] if len(have) >= len(NARROW) - 2 else have
    return ", ".join(words)


def make_page(dlc):
    versions = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        versions.setdefault((schema.domain, schema.name), []).append(schema.since_version)
    tables, counts = {}, {}
    for name, how, narrow, limits in list_ops(dlc):
        domain, _, op = name.rpartition(".")
        schema = onnx.defs.get_schema(op, domain=domain)
        opsets = ", ".join(str(v) for v in sorted(versions[domain, op]))
        words = "; ".join(w for w in (HOW[how], limits) if w)
        types = "" if how == "refused" else describe_types(schema, narrow)
        tables.setdefault(domain, []).append(f"| {op} | {opsets} | {types} | {words} |")
        counts.setdefault(domain, []).append(how != "refused")
    lines = "".join(f"- `{d or 'ai.onnx'}`: {sum(c)} of {len(c)} operators\n" for d, c in sorted(counts.items()))
    page = HEAD.format(version=onnx.__version__, opset=onnx.defs.onnx_opset_version(), counts=lines.strip())
    for domain, rows in sorted(tables.items()):
        page += f"\n## {domain or 'ai.onnx'}\n| operator | opsets | elements | how, limits |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    return page


def main():
    dlc, *flags = sys.argv[1:]
    page = make_page(dlc)
    if flags != ["--check"]:
        with open(PAGE, "w") as file:
            file.write(page)
        return 0
    with open(PAGE) as file:
        old = file.read()
    if old == page:
        return 0
    sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), page.splitlines(True), "docs/supported-ops.md", "dlc -list-ops", n=0))
    print("docs/supported-ops.md is stale: run utils/supported-ops.py build/bin/dlc")
    return 1


if __name__ == "__main__":
    sys.exit(main())
