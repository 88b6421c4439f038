#!/usr/bin/env python3
"""Checks who includes whom against the table of docs/architecture.md ("Folders and who may know whom").

    check-includes.py [root]

The table is read from the page, so the page cannot fall behind: a row is `folder -> room, room, ...`. A room is a folder
of include/dlc and lib (Dialect/Graph is the room Graph, Dialect/Program is Program IR) or one of the libraries MLIR, LLVM
and onnx. MLIR brings LLVM along, and a room brings the libraries it may use itself; rooms are not passed on. Everybody may
include what lies directly in include/dlc (the C headers, the precompiled header), which may include no room, and what is
theirs. Prints `file:line: reason` for each include that breaks the table and exits 1."""
import os
import re
import sys

LIBRARIES = {"mlir": "MLIR", "llvm": "LLVM", "onnx": "onnx"}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]|^\s*include\s+"([^"]+)"')


def room_of(path):
    """The room of a path below include/dlc or lib; None for a file that lies in no folder."""
    parts = path.split("/")
    if len(parts) < 2:
        return None
    if parts[0] == "Dialect":
        return "Program IR" if parts[1] == "Program" else parts[1]
    return parts[0]


def read_table(page):
    """{room: set of rooms and libraries it may include}, or {room: None} for a room that may include all."""
    with open(page) as file:
        text = file.read()
    section = re.search(r"^## Folders and who may know whom\n(.*?)^## ", text, re.M | re.S)
    if not section:
        sys.exit(f"{page}: no section 'Folders and who may know whom'")
    table = {}
    for line in section.group(1).splitlines():
        row = re.match(r"([A-Z]\S*)\s+->\s+(.*)", line)
        if not row:
            continue
        # What follows two spaces is the name of the CMake library, what is in brackets or "only" is prose.
        allowed = re.sub(r"\(.*?\)|\bonly\b", "", row.group(2)).split("  ")[0]
        names = {name.strip() for name in allowed.split(",") if name.strip()}
        # DLCFoo at the end of a long row is one space away.
        names = {re.sub(r"\s+(DLC|dlc)\w*$", "", name) for name in names}
        room = room_of(row.group(1) + "/x")
        table[room] = None if names == {"all"} else names - {"nothing"}
    if not table:
        sys.exit(f"{page}: the table of folders has no rows")
    unknown = {name for names in table.values() if names for name in names} - set(table) - set(LIBRARIES.values())
    if unknown:
        sys.exit(f"{page}: the table names unknown rooms: {', '.join(sorted(unknown))}")
    return table


def libraries_of(room, table):
    """The libraries that a room may include: its own row's, and those of the rooms it may know."""
    names = table[room]
    found = {name for name in names if name in LIBRARIES.values()}
    for name in names - found:
        if name != room and table[name] is not None:
            found |= libraries_of(name, table)
    if "MLIR" in found:
        found.add("LLVM")
    return found


def check_file(file, room, table, root):
    """Yields a message for each include of one file that its room's row does not allow."""
    if table[room] is None:
        return
    libraries = libraries_of(room, table)
    with open(os.path.join(root, file), errors="replace") as text:
        for number, line in enumerate(text, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1) or match.group(2)
            first, _, rest = target.partition("/")
            if first == "dlc":
                other = room_of(rest)
                if other is None or other == room or other in table[room]:
                    continue
                yield f"{file}:{number}: {room} may not include '{target}' ({other})"
            elif LIBRARIES.get(first) and LIBRARIES[first] not in libraries:
                yield f"{file}:{number}: {room} may not include '{target}' ({LIBRARIES[first]})"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    table = read_table(os.path.join(root, "docs", "architecture.md"))
    problems, checked = [], 0
    for base in ("include/dlc", "lib"):
        for folder, _, names in os.walk(os.path.join(root, base)):
            for name in sorted(names):
                if not name.endswith((".h", ".c", ".cpp", ".td", ".def")):
                    continue
                path = os.path.join(folder, name)
                room = room_of(os.path.relpath(path, os.path.join(root, base)))
                file = os.path.relpath(path, root)
                checked += 1
                if room is None:
                    problems += check_file(file, "no room", dict(table, **{"no room": {"MLIR"}}), root)
                elif room not in table:
                    problems.append(f"{file}: the table has no row for the room {room}")
                else:
                    problems += check_file(file, room, table, root)
    print("\n".join(sorted(problems)) or f"{checked} files keep to the table")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
