#!/usr/bin/env python3
"""bodies.py CHECKER: fused bodies that are equal to their members are accepted, planted faults are refused by name.

KERNELS holds good kernels in the form of docs/proofs/README.md; FAULTS replace text in one of them, each with the condition
that must be named."""
import subprocess
import sys
import tempfile

KERNELS = {
    "softmax in rows": """
kernel softmax rows 1
original m ((i 4)) (fold max -inf ((k 8)) (load x i k))
original e ((i 4) (j 8)) (exp (sub (load x i j) (load m i)))
original z ((i 4)) (fold add 0 ((k 8)) (load e i k))
original y ((i 4) (j 8)) (cast:bf16 (div (load e i j) (load z i)))
fused M ((i 4)) (fold max -inf ((k 8)) (load x i k))
fused E ((i 4) (j 8)) (exp (sub (load x i j) (load M i)))
fused Z ((i 4)) (fold add 0 ((k 8)) (load E i k))
fused Y ((i 4) (j 8)) (cast:bf16 (div (load E i j) (load Z i)))
result y Y
""",
    "transpose and reshape as one map": """
kernel views rows 0
original t ((i 6) (j 4)) (load x j i)
original r ((a 24)) (load t (div a 4) (mod a 4))
original y ((a 2) (b 12)) (relu (load r (+ (* a 12) b)))
fused Y ((a 2) (b 12)) (relu (load x (mod b 4) (+ (* a 3) (div b 4))))
result y Y
""",
    "pad in a window": """
kernel window rows 0
original p ((i 10)) (guard ((>= (+ i -1)) (>= (+ 8 (* i -1)))) (load x (+ i -1)) (lit:0))
original y ((o 8)) (fold add 0 ((k 3)) (mul (load p (+ o k)) (load w k)))
fused Y ((o 8)) (fold add 0 ((k 3)) (mul (guard ((>= (+ o k -1)) (>= (+ 8 (* -1 1) 1 (* o -1) (* k -1)))) (load x (+ k o -1)) (lit:0)) (load w k)))
result y Y
""".replace("(* -1 1) 1 ", ""),
    "gather with an epilogue": """
kernel gather rows 0
original g ((i 5) (j 3)) (at ((to_index:7 (load ids i))) (r) (load table r j))
original y ((i 5) (j 3)) (add (load g i j) (load bias j))
fused Y ((i 5) (j 3)) (add (at ((to_index:7 (load ids i))) (r) (load table r j)) (load bias j))
result y Y
""",
    "two axes folded, prologue and epilogue, too large for evaluation": """
kernel contraction rows 0
original s ((i 1024) (k 512) (l 64)) (mul (load a i k l) (lit:2))
original c ((i 1024) (j 1024)) (fold add 0 ((k 512) (l 64)) (mul (load s i k l) (load b k l j)))
original y ((i 1024) (j 1024)) (relu (load c i j))
fused Y ((i 1024) (j 1024)) (relu (fold add 0 ((k 512) (l 64)) (mul (mul (load a i k l) (lit:2)) (load b k l j))))
result y Y
""",
    "guards in a guard": """
kernel guards rows 0
original c ((i 7)) (guard ((>= (+ 2 (* i -1)))) (load a i) (load b (+ i -3)))
original y ((i 9)) (guard ((>= (+ i -1)) (>= (+ 7 (* i -1)))) (load c (+ i -1)) (lit:1))
fused Y ((i 9)) (guard ((>= (+ i -1)) (>= (+ 7 (* i -1)))) (guard ((>= (+ 3 (* i -1))) (>= (+ i -1))) (load a (+ i -1)) (load b (+ i -4))) (lit:1))
result y Y
""",
    "large guards that say it twice": """
kernel large rows 0
original p ((i 1000002)) (guard ((>= (+ i -1)) (>= (+ 1000000 (* i -1)))) (load x (+ i -1)) (lit:0))
original y ((i 1000002)) (guard ((>= (+ i -1))) (exp (load p i)) (lit:1))
fused Y ((i 1000002)) (guard ((>= (+ i -1))) (exp (guard ((>= (+ 1000000 (* i -1)))) (guard ((>= (+ -1 i))) (load x (+ i -1)) (lit:7)) (lit:0))) (lit:1))
result y Y
""",
    "a concat read back": """
kernel concat rows 0
original c ((i 7)) (guard ((>= (+ 2 (* i -1)))) (load a i) (load b (+ i -3)))
original y ((i 4)) (neg (load c (+ i 3)))
fused Y ((i 4)) (neg (guard ((>= (+ -1 (* i -1)))) (load a (+ i 3)) (load b i)))
result y Y
""",
}

# kernel, what is wrong, text, replacement, condition
FAULTS = [
    ("softmax", "start value", "fused M ((i 4)) (fold max -inf", "fused M ((i 4)) (fold max 0", "C-ORDER"),
    ("softmax", "other fold", "fused Z ((i 4)) (fold add", "fused Z ((i 4)) (fold max", "C-ORDER"),
    ("softmax", "shorter fold", "fused Z ((i 4)) (fold add 0 ((k 8))", "fused Z ((i 4)) (fold add 0 ((k 7))", "C-ORDER"),
    ("softmax", "dropped cast", "(cast:bf16 (div (load E i j) (load Z i)))", "(div (load E i j) (load Z i))", "C-ROUND"),
    ("softmax", "other cast", "fused Y ((i 4) (j 8)) (cast:bf16", "fused Y ((i 4) (j 8)) (cast:f16", "C-ROUND"),
    ("softmax", "other function", "fused E ((i 4) (j 8)) (exp ", "fused E ((i 4) (j 8)) (exp2 ", "C-ROUND"),
    ("softmax", "operands swapped", "(sub (load x i j) (load M i))", "(sub (load M i) (load x i j))", "C-ORDER"),
    ("softmax", "other tensor", "fused E ((i 4) (j 8)) (exp (sub (load x", "fused E ((i 4) (j 8)) (exp (sub (load q", "C-COMPOSE"),
    ("softmax", "another row", "(load M i)", "(load M (mod (+ i 1) 4))", "C-ROW"),
    ("softmax", "one row for all", "(load M i)", "(load M 0)", "C-ROW"),
    ("softmax", "row too wide", "rows 1", "rows 2", "C-ROW"),
    ("softmax", "past the end of the row", "fused Y ((i 4) (j 8)) (cast:bf16 (div (load E i j)", "fused Y ((i 4) (j 8)) (cast:bf16 (div (load E i (+ j 1))", "C-BOUNDS"),
    ("softmax", "rank of a read", "(load Z i)", "(load Z i 0)", "C-BOUNDS"),
    ("softmax", "buffer too small", "fused E ((i 4) (j 8))", "fused E ((i 4) (j 7))", "C-BOUNDS"),
    ("softmax", "result too small", "fused Y ((i 4) (j 8))", "fused Y ((i 4) (j 4))", "C-BOUNDS"),
    ("softmax", "result of another stage", "result y Y", "result y E", "C-ROUND"),
    ("softmax", "no such stage", "result y Y", "result y W", "C-COMPOSE"),
    ("softmax", "a stage twice", "fused Y ", "fused M ((i 3)) (lit:0)\nfused Y ", "C-ROW"),
    ("transpose", "not transposed", "(load x (mod b 4) (+ (* a 3) (div b 4)))", "(load x (+ (* a 3) (div b 4)) (mod b 4))", "C-COMPOSE"),
    ("transpose", "other radix", "(mod b 4)", "(mod b 6)", "C-COMPOSE"),
    ("transpose", "off by one", "(+ (* a 3) (div b 4))", "(+ (* a 3) (div b 4) 1)", "C-COMPOSE"),
    ("pad", "dropped guard", "(guard ((>= (+ o k -1)) (>= (+ 8 (* o -1) (* k -1)))) (load x (+ k o -1)) (lit:0))", "(load x (+ k o -1))", "C-COMPOSE"),
    ("pad", "guard off by one", "(>= (+ 8 (* o -1) (* k -1)))", "(>= (+ 9 (* o -1) (* k -1)))", "C-COMPOSE"),
    ("pad", "one side guarded", "(guard ((>= (+ o k -1)) (>= (+ 8 (* o -1) (* k -1))))", "(guard ((>= (+ o k -1)))", "C-COMPOSE"),
    ("pad", "pad value", "(load x (+ k o -1)) (lit:0))", "(load x (+ k o -1)) (lit:1))", "C-ROUND"),
    ("pad", "shifted window", "(load x (+ k o -1))", "(load x (+ k o))", "C-COMPOSE"),
    ("gather", "index of another tensor", "fused Y ((i 5) (j 3)) (add (at ((to_index:7 (load ids i)))", "fused Y ((i 5) (j 3)) (add (at ((to_index:7 (load other i)))", "C-COMPOSE"),
    ("gather", "other size", "fused Y ((i 5) (j 3)) (add (at ((to_index:7", "fused Y ((i 5) (j 3)) (add (at ((to_index:8", "C-ROUND"),
    ("gather", "axes swapped", "(load table r j)) (load bias j))", "(load table j r)) (load bias j))", "C-COMPOSE"),
    ("two axes", "order of the axes", "(relu (fold add 0 ((k 512) (l 64))", "(relu (fold add 0 ((l 64) (k 512))", "C-ORDER"),
    ("two axes", "axes folded apart", "(relu (fold add 0 ((k 512) (l 64)) (mul (mul (load a i k l) (lit:2)) (load b k l j))))",
     "(relu (fold add 0 ((k 512)) (fold add 0 ((l 64)) (mul (mul (load a i k l) (lit:2)) (load b k l j)))))", "C-ORDER"),
    ("two axes", "epilogue in the fold", "(relu (fold add 0 ((k 512) (l 64)) (mul (mul (load a i k l) (lit:2)) (load b k l j))))",
     "(fold add 0 ((k 512) (l 64)) (relu (mul (mul (load a i k l) (lit:2)) (load b k l j))))", "C-ORDER"),
    ("two axes", "transposed operand", "(mul (mul (load a i k l) (lit:2)) (load b k l j))", "(mul (mul (load a i k l) (lit:2)) (load b l k j))", "C-COMPOSE"),
    ("guards", "inner guard off by one", "(>= (+ 3 (* i -1))) (>= (+ i -1))", "(>= (+ 3 (* i -1))) (>= (+ i -2))", "C-COMPOSE"),
    ("guards", "inner guard dropped", "(guard ((>= (+ 3 (* i -1))) (>= (+ i -1))) (load a (+ i -1)) (load b (+ i -4)))", "(load a (+ i -1))", "C-COMPOSE"),
    ("large", "inner guard not implied", "(>= (+ -1 i))", "(>= (+ -2 i))", "C-COMPOSE"),
    ("large", "outer guard dropped", "(guard ((>= (+ i -1))) (exp (guard ((>= (+ 1000000 (* i -1)))) (guard ((>= (+ -1 i))) (load x (+ i -1)) (lit:7)) (lit:0))) (lit:1))",
     "(exp (guard ((>= (+ 1000000 (* i -1)))) (guard ((>= (+ -1 i))) (load x (+ i -1)) (lit:7)) (lit:0)))", "C-COMPOSE"),
    ("a concat", "boundary off by one", "(>= (+ -1 (* i -1)))", "(>= (+ 0 (* i -1)))", "C-COMPOSE"),
    ("a concat", "parts swapped", "(load a (+ i 3)) (load b i)))", "(load b i) (load a (+ i 3))))", "C-COMPOSE"),
]

MALFORMED = [
    ("softmax", "open bracket", "(load Z i)))", "(load Z i))"),
    ("softmax", "a bracket too many", "(load Z i)))", "(load Z i))))"),
    ("softmax", "unknown coordinate", "(load Z i)", "(load Z q)"),
    ("softmax", "no result", "result y Y", ""),
    ("softmax", "size of no number", "(j 8)", "(j n)"),
]


def main():
    cases = [(name, text, "ACCEPT") for name, text in KERNELS.items()]
    failures = []

    def damaged(kernel, what, old, new):
        name = next(name for name in KERNELS if name.startswith(kernel))
        if old not in KERNELS[name]:
            sys.exit(f"{name}, {what}: the text to replace is not there")
        return KERNELS[name].replace(old, new)
    for kernel, what, old, new, condition in FAULTS:
        cases.append((f"{kernel}: {what}", damaged(kernel, what, old, new), condition))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, (_, text, _) in enumerate(cases):
            paths.append(f"{folder}/{i}.groups")
            with open(paths[-1], "w") as file:
                file.write(f"dlc-groups 1\n{text}end\n")
        run = subprocess.run(sys.argv[1:] + paths, capture_output=True, text=True)
        lines = run.stdout.splitlines()
        if run.returncode != 1 or len(lines) != len(cases):
            sys.exit(f"the checker answered {len(lines)} of {len(cases)} and left with {run.returncode}: {run.stderr[:500]}")
        for (name, _, expected), line in zip(cases, lines):
            answer = "ACCEPT" if line.startswith("ACCEPT") else line.split()[2]
            if answer != expected:
                failures.append(f"{name}: {line.replace(folder + '/', '')}, expected {expected}")
        for kernel, what, old, new in MALFORMED:
            text = f"dlc-groups 1\n{damaged(kernel, what, old, new)}end\n"
            run = subprocess.run(sys.argv[1:] + ["-"], input=text, capture_output=True, text=True)
            if run.returncode != 2 or not run.stderr:
                failures.append(f"{what}: left with {run.returncode}: {run.stdout}")
    for failure in failures:
        print("FAILED", failure)
    print(f"{len(KERNELS)} good kernels, {len(FAULTS)} faults, {len(MALFORMED)} malformed texts, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
