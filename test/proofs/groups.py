#!/usr/bin/env python3
"""groups.py [--nodes=N] [--seeds=N] CHECKER: good dumps of fused graphs are accepted, mutants of them refused.

Makes random graphs with a legal grouping (segments of a random topological order, an opaque operation alone, cheap nodes
cloned into other groups) in the form of docs/proofs/README.md, and plants one fault at a time. Each fault lists the
conditions that may be named for it; CHECKER must name one of them. A fault that finds no place in a graph is skipped there,
but every fault must find a place in some graph. --time: one graph of that many nodes, at most one second of CPU time."""
import argparse
import copy
import random
import resource
import subprocess
import sys
import tempfile


class Node:
    def __init__(self, name, key, reads, opaque=False, original=None):
        self.name, self.key, self.reads, self.opaque, self.original = name, key, reads, opaque, original

    def tail(self):
        return f"{self.key} reads {' '.join(self.reads)}"


class Graph:
    """inputs, nodes, groups as [members, keep], outputs, what the fused graph returns."""

    def text(self):
        out = ["dlc-groups 1", "input " + " ".join(self.inputs)]
        out += [f"{'opaque' if n.opaque else 'node'} {n.name} {n.tail()}" for n in self.nodes]
        for number, (members, keep) in enumerate(self.groups):
            out.append(f"group g{number}")
            out += [f"clone {m.name} of {m.original} {m.tail()}" if m.original else f"member {m.name} {m.tail()}" for m in members]
            out.append("keep " + " ".join(keep))
        out.append("output " + " ".join(self.outputs))
        if self.returns != self.outputs:
            out.append("returns " + " ".join(self.returns))
        return "\n".join(out + ["end", ""])


def make(seed, count):
    rng = random.Random(seed)
    g = Graph()
    g.inputs = [f"in{i}" for i in range(3)]
    g.nodes = []
    for i in range(count):
        window = g.inputs + [n.name for n in g.nodes[-12:]]
        reads = [rng.choice(window) for _ in range(rng.randint(1, 3))]
        if i and rng.random() < 0.7:
            reads[0] = g.nodes[-1].name
        opaque = rng.random() < 0.08
        g.nodes.append(Node(f"%{i}", f"{'sort' if opaque else 'k'}{i if opaque else rng.randint(0, 40)}#0", reads, opaque))
    # A random topological order, cut into segments.
    waiting = {n.name: {r for r in n.reads if r[0] == "%"} for n in g.nodes}
    users = {n.name: [] for n in g.nodes}
    for n in g.nodes:
        for r in set(n.reads):
            if r[0] == "%":
                users[r].append(n.name)
    by_name, ready, order = {n.name: n for n in g.nodes}, [n.name for n in g.nodes if not waiting[n.name]], []
    while ready:
        # mostly go on where we are, as fusion does
        name = ready.pop() if rng.random() < 0.8 else ready.pop(rng.randrange(len(ready)))
        order.append(by_name[name])
        for user in users[name]:
            waiting[user].discard(name)
            if not waiting[user]:
                ready.append(user)
    g.groups, current = [], []
    for n in order:
        if current and (n.opaque or current[-1].opaque or rng.random() < 0.25):
            g.groups.append([current, []])
            current = []
        current.append(Node(n.name, n.key, list(n.reads)))
        current[-1].opaque = n.opaque
    g.groups.append([current, []])
    # Cheap clones: a node read by a later group is computed there again.
    home = {m.name: i for i, (members, _) in enumerate(g.groups) for m in members}
    for number, (members, _) in enumerate(g.groups):
        reads = [r for m in members for r in m.reads if r in home and home[r] < number and not by_name[r].opaque]
        if reads and not members[0].opaque and rng.random() < 0.3:
            victim = rng.choice(reads)
            copied = Node(f"{victim}.c{number}", by_name[victim].key, list(by_name[victim].reads), original=victim)
            for m in members:
                m.reads = [copied.name if r == victim else r for r in m.reads]
            members.insert(0, copied)
    read = {r for n in g.nodes for r in n.reads}
    g.outputs = [n.name for n in g.nodes if n.name not in read] + [rng.choice(g.nodes).name]
    copies = {m.original: m.name for members, _ in g.groups for m in members if m.original}
    g.returns = [copies.get(o, o) for o in g.outputs]
    needed = set(g.returns)
    for members, keep in reversed(g.groups):
        keep += [m.name for m in members if m.name in needed]
        needed |= {r for m in members for r in m.reads}
    return g


MUTANTS = []


def mutant(*allowed):
    def add(function):
        MUTANTS.append((function.__name__.replace("_", " "), function, set(allowed)))
        return function
    return add


def members_of(g, plain=True):
    return [(group, m) for group in g.groups for m in group[0] if not plain or not m.original]


def pick(rng, options):
    options = list(options)
    return rng.choice(options) if options else None


@mutant("C-CONVEX")
def dependent_groups_swapped(g, rng):
    names = [{m.name for m in members} for members, _ in g.groups]
    i = pick(rng, [i for i in range(1, len(g.groups)) if any(r in names[i - 1] for m in g.groups[i][0] for r in m.reads)])
    if i is None:
        return False
    g.groups[i - 1], g.groups[i] = g.groups[i], g.groups[i - 1]


@mutant("C-CONVEX", "C-SSA")
def groups_reversed(g, rng):
    g.groups.reverse()
    return len(g.groups) > 3


def merged(g, rng, at_end):
    """Merges two groups that a path through a third one joins."""
    home = {m.name: i for i, (members, _) in enumerate(g.groups) for m in members}
    before = [{home[r] for m in members for r in m.reads if r in home} - {i} for i, (members, _) in enumerate(g.groups)]
    found = pick(rng, [(a, c) for c in range(len(g.groups)) for b in before[c] for a in before[b] if a != c])
    if found is None:
        return False
    a, c = found
    joined = [g.groups[a][0] + g.groups[c][0], g.groups[a][1] + g.groups[c][1]]
    g.groups[c if at_end else a] = joined
    del g.groups[a if at_end else c]


@mutant("C-CONVEX")
def nonconvex_merge_early(g, rng):
    return merged(g, rng, False)


@mutant("C-CONVEX")
def nonconvex_merge_late(g, rng):
    return merged(g, rng, True)


@mutant("C-CONVEX")
def consumer_moved_before_producer(g, rng):
    home = {m.name: i for i, (members, _) in enumerate(g.groups) for m in members}
    found = pick(rng, [(i, m) for i, (members, keep) in enumerate(g.groups) for m in members
                       for r in m.reads if 0 < home.get(r, 0) < i and not m.opaque])
    if found is None:
        return False
    i, m = found
    target = min(home[r] for r in m.reads if 0 < home.get(r, 0) < i) - 1
    g.groups[i][0].remove(m)
    g.groups[target][0].append(m)
    if m.name in g.groups[i][1]:
        g.groups[i][1].remove(m.name)
    g.groups[target][1].append(m.name)


@mutant("C-LIVE")
def lost_keep(g, rng):
    later, options = set(), []
    for group in reversed(g.groups):
        options += [(group, k) for k in group[1] if k in later]
        later |= {r for m in group[0] for r in m.reads}
    found = pick(rng, options)
    if found is None:
        return False
    found[0][1].remove(found[1])


@mutant("C-LIVE")
def lost_keep_of_an_output(g, rng):
    group, kept = pick(rng, [(group, k) for group in g.groups for k in group[1] if k in g.returns])
    group[1].remove(kept)


@mutant("C-LIVE")
def empty_keep(g, rng):
    pick(rng, [group for group in g.groups if group[1]])[1].clear()


@mutant("C-LIVE")
def keep_of_another_group(g, rng):
    a, b = rng.sample(range(len(g.groups)), 2)
    g.groups[a][1].append(g.groups[b][0][-1].name)


@mutant("C-LIVE")
def keep_of_nothing(g, rng):
    rng.choice(g.groups)[1].append("nowhere")


@mutant("C-SAME-NODES")
def lost_node(g, rng):
    group, m = pick(rng, members_of(g))
    group[0].remove(m)


@mutant("C-SAME-NODES")
def lost_group(g, rng):
    g.groups.remove(rng.choice(g.groups))


@mutant("C-SSA")
def node_twice_in_a_group(g, rng):
    group, m = pick(rng, members_of(g))
    group[0].append(copy.deepcopy(m))


@mutant("C-SSA")
def node_in_two_groups(g, rng):
    group, m = pick(rng, members_of(g))
    other = pick(rng, [x for x in g.groups if x is not group])
    other[0].append(copy.deepcopy(m))
    return g.groups.index(other) > g.groups.index(group)


@mutant("C-SSA")
def members_out_of_order(g, rng):
    found = pick(rng, [(group, i) for group in g.groups for i in range(1, len(group[0])) if group[0][i - 1].name in group[0][i].reads])
    if found is None:
        return False
    l, i = found[0][0], found[1]
    l[i - 1], l[i] = l[i], l[i - 1]


@mutant("C-SAME-NODES")
def other_kernel(g, rng):
    pick(rng, members_of(g))[1].key = "k99#0"


@mutant("C-SAME-NODES")
def other_result_of_the_kernel(g, rng):
    m = pick(rng, members_of(g))[1]
    m.key = m.key[:-1] + "1"


@mutant("C-SAME-NODES")
def other_read(g, rng):
    m = pick(rng, members_of(g))[1]
    m.reads[-1] = "in1" if m.reads[-1] == "in0" else "in0"


@mutant("C-SAME-NODES")
def reads_swapped(g, rng):
    found = pick(rng, [m for _, m in members_of(g) if len(m.reads) > 1 and m.reads[0] != m.reads[1]])
    if found is None:
        return False
    found.reads[:2] = found.reads[1::-1]


@mutant("C-SAME-NODES")
def read_dropped(g, rng):
    pick(rng, members_of(g))[1].reads.pop()


@mutant("C-SAME-NODES")
def read_added(g, rng):
    pick(rng, members_of(g))[1].reads.append("in0")


@mutant("C-SAME-NODES")
def foreign_node(g, rng):
    rng.choice(g.groups)[0].append(Node("stranger", "k1#0", ["in0"]))


@mutant("C-SAME-NODES")
def renamed_node(g, rng):
    pick(rng, members_of(g))[1].name = "renamed"


def clones(g):
    return [(group, m) for group, m in members_of(g, plain=False) if m.original]


@mutant("C-SAME-NODES")
def clone_of_another_node(g, rng):
    found = pick(rng, clones(g))
    if found is None:
        return False
    key = {n.name: (n.key, n.reads) for n in g.nodes}
    found[1].original = pick(rng, [n.name for n in g.nodes if (n.key, n.reads) != key[found[1].original]])


@mutant("C-SAME-NODES")
def clone_with_another_kernel(g, rng):
    found = pick(rng, clones(g))
    if found is None:
        return False
    found[1].key = "k99#0"


@mutant("C-SAME-NODES")
def clone_with_another_read(g, rng):
    found = pick(rng, clones(g))
    if found is None:
        return False
    found[1].reads[0] = "in2" if found[1].reads[0] == "in1" else "in1"


@mutant("C-SAME-NODES")
def only_the_clone_is_left(g, rng):
    found = pick(rng, clones(g))
    if found is None:
        return False
    for group, m in members_of(g):
        if m.name == found[1].original:
            group[0].remove(m)
            if m.name in group[1]:
                group[1].remove(m.name)


# C-SAME-NODES where no group kept the original and another clone of it is left.
@mutant("C-SSA", "C-SAME-NODES")
def clone_under_the_original_id(g, rng):
    found = pick(rng, clones(g))
    if found is None:
        return False
    for m in found[0][0]:
        m.reads = [found[1].original if r == found[1].name else r for r in m.reads]
    found[1].name = found[1].original


@mutant("C-PURE")
def opaque_with_company(g, rng):
    i = pick(rng, [i for i in range(1, len(g.groups)) if g.groups[i][0][0].opaque or g.groups[i - 1][0][0].opaque])
    if i is None:
        return False
    g.groups[i - 1][0] += g.groups[i][0]
    g.groups[i - 1][1] += g.groups[i][1]
    del g.groups[i]


@mutant("C-SSA")
def graph_defines_twice(g, rng):
    g.nodes.append(copy.deepcopy(rng.choice(g.nodes)))


@mutant("C-SSA")
def graph_reads_before_definition(g, rng):
    i = pick(rng, [i for i in range(1, len(g.nodes)) if g.nodes[i - 1].name in g.nodes[i].reads])
    g.nodes[i - 1], g.nodes[i] = g.nodes[i], g.nodes[i - 1]


@mutant("C-SSA")
def node_reads_itself(g, rng):
    n = rng.choice(g.nodes)
    n.reads[0] = n.name


@mutant("C-SSA")
def input_not_declared(g, rng):
    name = pick(rng, [r for n in g.nodes for r in n.reads if r in g.inputs])
    g.inputs.remove(name)


@mutant("C-SSA")
def node_defines_an_input(g, rng):
    g.inputs.append(rng.choice(g.nodes).name)


@mutant("C-SSA")
def output_nowhere_defined(g, rng):
    g.outputs.append("nowhere")
    g.returns.append("nowhere")


@mutant("C-SAME-NODES")
def returns_something_else(g, rng):
    found = pick(rng, [m.name for _, m in members_of(g) if m.name not in g.returns])
    if found is None:
        return False
    g.returns[-1] = found


@mutant("C-SAME-NODES")
def returns_in_another_order(g, rng):
    if len(set(g.outputs)) < 2:
        return False
    i = next(i for i in range(1, len(g.outputs)) if g.outputs[i] != g.outputs[0])
    g.returns[0], g.returns[i] = g.returns[i], g.returns[0]


@mutant("C-SAME-NODES")
def returns_one_less(g, rng):
    g.returns.pop()
    return bool(g.returns)


@mutant("C-SSA")
def output_of_a_clone(g, rng):
    found = pick(rng, clones(g))
    if found is None:
        return False
    g.outputs.append(found[1].name)
    found[0][1].append(found[1].name)


MALFORMED = {
    "no first line": lambda t: t[t.index("\n") + 1:],
    "another version": lambda t: t.replace("dlc-groups 1", "dlc-groups 2"),
    "cut short": lambda t: t[:t.rindex("end")],
    "two keeps": lambda t: t.replace("\nkeep", "\nkeep\nkeep", 1),
    "member before a group": lambda t: t.replace("\ngroup g0\n", "\n", 1),
    "node without reads": lambda t: t.replace(" reads", "", 1),
    "unknown line": lambda t: t.replace("\nkeep", "\nkept", 1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--time", type=int, help="the size of the graph that is timed")
    parser.add_argument("checker", nargs="+", help="the command that runs the checker")
    arguments = parser.parse_args()
    cases = []  # name, text, allowed answers
    found = {name: 0 for name, _, _ in MUTANTS}
    for seed in range(arguments.seeds):
        good = make(seed, arguments.nodes)
        cases.append((f"good graph {seed}", good.text(), {"ACCEPT"}))
        for name, function, allowed in MUTANTS:
            for attempt in range(4):
                g = copy.deepcopy(good)
                if function(g, random.Random(f"{seed} {name} {attempt}")) is not False:
                    found[name] += 1
                    cases.append((f"{name}, graph {seed}", g.text(), allowed))
                    break
    failures = [f"{name}: no graph has a place for it" for name, n in found.items() if n == 0]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, (_, text, _) in enumerate(cases):
            paths.append(f"{folder}/{i}.groups")
            with open(paths[-1], "w") as file:
                file.write(text)
        run = subprocess.run(arguments.checker + paths, capture_output=True, text=True)
        lines = run.stdout.splitlines()
        if run.returncode != 1 or len(lines) != len(cases):
            sys.exit(f"the checker answered {len(lines)} of {len(cases)} and left with {run.returncode}: {run.stderr[:500]}")
        for (name, _, allowed), line in zip(cases, lines):
            answer = "ACCEPT" if line.startswith("ACCEPT") else line.split()[2]
            if answer not in allowed:
                failures.append(f"{name}: {line.replace(folder + '/', '')}, expected {' or '.join(sorted(allowed))}")
        for name, damage in MALFORMED.items():
            run = subprocess.run(arguments.checker + ["-"], input=damage(cases[0][1]), capture_output=True, text=True)
            if run.returncode != 2 or not run.stderr:
                failures.append(f"{name}: left with {run.returncode}")
        if arguments.time:
            path = f"{folder}/large.groups"
            with open(path, "w") as file:
                file.write(make(1, arguments.time).text())
            subprocess.run(arguments.checker + [path], check=True, capture_output=True)  # built before it is timed
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            subprocess.run(arguments.checker + [path], check=True, capture_output=True)
            seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            print(f"{arguments.time} nodes: {seconds:.2f} s")
            if seconds > 1:
                failures.append(f"{arguments.time} nodes took {seconds:.2f} s")
    for failure in failures:
        print("FAILED", failure)
    print(f"{arguments.seeds} good graphs, {len(MUTANTS)} kinds of mutants, {len(cases) - arguments.seeds} mutants, "
          f"{len(MALFORMED)} malformed texts, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
