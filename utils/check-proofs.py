#!/usr/bin/env python3
"""check-proofs.py [--build=FOLDER] [ROOT]: holds docs/proofs to its promises.

- No proof is left open and nothing is assumed: no Admitted, Axiom, Parameter or switched-off check, no Variable outside a Section.
- Every condition of Conditions.def has a row in the table "Conditions" of docs/proofs/README.md and the reverse; its theorem is in
  that row; every theorem that a table of README names is proved in the file that the row names.
- With --build, where the proofs lie compiled: what all theorems together assume is exactly docs/proofs/assumptions.txt."""
import argparse
import os
import re
import subprocess
import sys

BANNED = re.compile(r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?|bypass_check|Unset\s+(?:Guard|Positivity|Universe)\s+Checking|type_in_type)\b")
STATEMENT = re.compile(r"^\s*(?:Local\s+|Global\s+)?(?:Theorem|Lemma|Corollary|Remark|Fact|Proposition)\s+([\w']+)", re.M)
CONDITION = re.compile(r'^\s*DLC_(?:COST_)?CONDITION\(\s*\w+\s*,\s*"([^"]+)"\s*,\s*"([^"]*)"\s*\)', re.M)


def without_comments(text):
    """The text with Coq's nested comments and its strings blanked, lines kept."""
    out, depth, i, quoted = [], 0, 0, False
    while i < len(text):
        pair = text[i:i + 2]
        if not quoted and pair == "(*":
            depth, i = depth + 1, i + 2
        elif not quoted and depth and pair == "*)":
            depth, i = depth - 1, i + 2
        else:
            if text[i] == '"':
                quoted = not quoted
            out.append(text[i] if not (depth or quoted) or text[i] == "\n" else " ")
            i += 1
    return "".join(out)


def check_sources(files):
    """What is assumed instead of proved: [complaint]."""
    complaints = []
    for name, text in files.items():
        sections = 0
        for number, line in enumerate(text.splitlines(), 1):
            for word in BANNED.findall(line):
                complaints.append(f"{name}:{number}: {word}")
            sections += len(re.findall(r"^\s*Section\s", line))
            if re.match(r"\s*(Variables?|Hypothes[ie]s|Context)\b", line) and sections == 0:
                complaints.append(f"{name}:{number}: {line.split()[0]} outside a Section is an axiom")
            sections -= len(re.findall(r"^\s*End\s", line)) if sections else 0
        if re.search(r"^\s*Module\s+Type\b|^\s*Declare\s", text, re.M):
            complaints.append(f"{name}: declares without defining")
    return complaints


def table_rows(readme, heading):
    """The cells of the rows of the table below a heading."""
    part = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", readme, re.M | re.S)
    if not part:
        return []
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in part.group(1).splitlines() if line.startswith("|")]
    return [row for row in rows[2:]]


def check_names(readme, conditions, proved):
    """Conditions, README's tables and the theorems agree: [complaint]."""
    complaints, listed = [], {}
    for heading in ("Conditions", "Theorems"):
        rows = table_rows(readme, heading)
        if not rows:
            complaints.append(f"README.md: no table below '{heading}'")
        for row in rows:
            names = re.findall(r"`([\w']+)`", row[1])
            if heading == "Conditions":
                listed[row[0]] = names
            file = row[2] if heading == "Conditions" else row[0]
            where = {name: re.findall(r"\w+\.v", file) for name in names}
            if not names:
                complaints.append(f"README.md: {row[0]} names no theorem")
            for name, homes in where.items():
                if not any(name in proved.get(home, ()) for home in homes):
                    complaints.append(f"README.md: {row[0]}: no theorem {name} in {' or '.join(homes) or 'any file'}")
    if conditions is None:
        return complaints
    for name, theorem in conditions:
        if name not in listed:
            complaints.append(f"Conditions.def: {name} has no row in README.md")
        elif not theorem:
            complaints.append(f"Conditions.def: {name} names no theorem")
        elif theorem not in listed[name]:
            complaints.append(f"Conditions.def: {name}: {theorem} is not in its row of README.md")
    for name in listed:
        if name not in [condition for condition, _ in conditions]:
            complaints.append(f"README.md: {name} is no condition of Conditions.def")
    return complaints


def assumptions(build, proved):
    """The names that all theorems together assume, as Coq prints them."""
    names = [f"@{file[:-2]}.{name}" for file, theorems in sorted(proved.items()) for name in theorems]
    modules = " ".join(file[:-2] for file in sorted(proved))
    body = f"Require {modules}.\nDefinition all_theorems := ({', '.join(names)}).\nPrint Assumptions all_theorems.\n"
    with open(os.path.join(build, "Assumptions.v"), "w") as file:
        file.write(body)
    run = subprocess.run(["coqc", "-q", "-noglob", "-Q", ".", "", "Assumptions.v"], cwd=build, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"coqc on the list of theorems: {run.stderr or run.stdout}")
    if "Closed under the global context" in run.stdout:
        return []
    return sorted(match.group(1) for match in re.finditer(r"^([\w.']+)(?: :|\s*$)", run.stdout, re.M) if match.group(1) != "Axioms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", help="where the proofs lie compiled")
    parser.add_argument("root", nargs="?", default=os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")))
    arguments = parser.parse_args()
    folder = os.path.join(arguments.root, "docs", "proofs")
    read = lambda path: open(path, encoding="utf-8").read()
    files = {name: without_comments(read(os.path.join(folder, name))) for name in sorted(os.listdir(folder)) if name.endswith(".v")}
    proved = {name: STATEMENT.findall(text) for name, text in files.items()}
    proved = {name: theorems for name, theorems in proved.items() if theorems}
    if not proved:
        sys.exit(f"no theorem in {folder}")
    definitions = os.path.join(arguments.root, "include", "dlc", "Dialect", "Graph", "IR", "Conditions.def")
    conditions = CONDITION.findall(read(definitions)) if os.path.exists(definitions) else None
    complaints = check_sources(files) + check_names(read(os.path.join(folder, "README.md")), conditions, proved)
    if conditions is not None and len(conditions) < 10:
        complaints.append(f"Conditions.def: only {len(conditions)} conditions were found")
    if arguments.build:
        allowed = read(os.path.join(folder, "assumptions.txt")).split("\n")
        allowed = sorted(line for line in allowed if line and not line.startswith("#"))
        for name in sorted(set(allowed) ^ set(assumptions(arguments.build, proved))):
            complaints.append(f"assumed but not in assumptions.txt: {name}" if name not in allowed else f"in assumptions.txt but not assumed: {name}")
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"{sum(map(len, proved.values()))} theorems of {len(proved)} files, {len(conditions or [])} conditions: names agree, nothing is left open"
              + (", assumptions as listed" if arguments.build else ""))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
