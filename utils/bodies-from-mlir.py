#!/usr/bin/env python3
"""bodies-from-mlir.py FUSED.mlir: the bodies of fused kernels in the input form of the proved checker (docs/proofs/README.md).

Reads what `dlc -dump-dir` writes after fusion (02-fused.mlir: the kernels of single operators, the fused kernels and their
certificates) and prints one kernel block for each certificate: the members' stages, the fused stages, what must be equal. It
shares no code with the compiler. A kernel that the form cannot say (symbolic sizes, an operation it does not know) is left
out, with its reason on standard error. The last line on standard error is `N kernels, N left out`."""
import ast
import re
import sys


class LeftOut(Exception):
    """This kernel has no form here."""


def dims_of(tensor_type):
    """The static sizes of `tensor<4x8xf32>`."""
    inner = re.fullmatch(r"tensor<(.*)>", tensor_type.strip()).group(1).split(",")[0]
    parts = re.match(r"((?:(?:\d+|\?)x)*)(.*)", inner).group(1).split("x")[:-1]
    if "?" in parts:
        raise LeftOut("symbolic sizes")
    return [int(p) for p in parts]


def split_top(text):
    """Splits at the commas that no bracket encloses."""
    parts, depth, last = [], 0, ""
    for c, following in zip(text, text[1:] + " "):
        depth += c in "([{<" and following != "="
        depth -= c in ")]}" or (c == ">" and following != "=" and not last.endswith("-"))
        if c == "," and depth == 0:
            parts.append(last)
            last = ""
        else:
            last += c
    return [p.strip() for p in parts + [last] if p.strip()]


def index_text(node, names):
    """An affine expression as IX; names maps d0, d1, ... to coordinates."""
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise LeftOut("symbolic sizes")
        return names[node.id]
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if isinstance(node.operand, ast.Constant):
            return str(-node.operand.value)
        return f"(* {index_text(node.operand, names)} -1)"
    if isinstance(node, ast.BinOp):
        left, right = index_text(node.left, names), index_text(node.right, names)
        if isinstance(node.op, ast.Add):
            return f"(+ {left} {right})"
        if isinstance(node.op, ast.Sub):
            return f"(+ {left} (* {right} -1))"
        if isinstance(node.op, (ast.Mult, ast.FloorDiv, ast.Mod)):
            op = {ast.Mult: "*", ast.FloorDiv: "div", ast.Mod: "mod"}[type(node.op)]
            if re.fullmatch(r"-?\d+", left) and op == "*":
                left, right = right, left
            if not re.fullmatch(r"-?\d+", right):
                raise LeftOut("symbolic sizes")
            return f"({op} {left} {right})"
    raise LeftOut("an affine expression of another form")


def affine(text, names):
    if "ceildiv" in text:
        raise LeftOut("ceildiv")
    return index_text(ast.parse(text.replace("floordiv", "//").replace(" mod ", " % "), mode="eval").body, names)


def affine_parts(text, coords):
    """The results of `(d0, d1) -> (e, f)` or the constraints of `(d0, d1) : (c, d)`, coordinates put in."""
    match = re.fullmatch(r"\(([^)]*)\)(\[[^\]]*\])?\s*(?:->|:)\s*\((.*)\)", text.strip())
    if not match or match.group(2):
        raise LeftOut("symbolic sizes")
    names = dict(zip(split_top(match.group(1)), coords))
    return split_top(match.group(3)), names


def conditions(text, coords):
    parts, names = affine_parts(text, coords)
    out = []
    for part in parts:
        left, relation, right = re.fullmatch(r"(.*?)\s*(>=|==|<=)\s*(.*)", part).groups()
        if relation == "<=":
            left, relation, right = right, ">=", left
        e = affine(left, names)
        if right != "0":
            e = f"(+ {e} (* {affine(right, names)} -1))"
        out.append(f"({relation} {e})")
    return "(" + " ".join(out) + ")"


class Stage:
    """One graph.stage: sizes, fold and its lines."""

    def __init__(self, head):
        match = re.match(r"(%\w+) = graph\.stage domain <([^>]*)>(?: reduce <([^>]*)>)?(?: fold +(\w+))?(?: init (.*?))?(?: \{[^}]*\})? : (tensor<[^{]*>) \{", head)
        if not match:
            raise LeftOut("a stage of another form")
        self.name, domain, reduce, self.fold, self.init, self.type = match.groups()
        self.sizes = self.numbers(domain)
        self.reduce = self.numbers(reduce) if reduce is not None else []
        self.lines = []

    @staticmethod
    def numbers(text):
        if re.search(r"[^\d, ]", text):
            raise LeftOut("symbolic sizes")
        return [int(n) for n in text.split(",") if n.strip()]


class Printer:
    """Prints stages; `tensors` maps the kernel's names to IDs."""

    def __init__(self, tensors):
        self.tensors, self.bound = tensors, 0

    def stage(self, stage):
        coords = [f"d{i}" for i in range(len(stage.sizes))] + [f"k{i}" for i in range(len(stage.reduce))]
        self.values, self.indices, self.insides = {}, {}, {}
        arguments = re.match(r"\^bb0\((.*)\):", stage.lines[0]) if stage.lines[0].startswith("^bb0") else None
        names = [a.split(":")[0].strip() for a in split_top(arguments.group(1))] if arguments else []
        if len(names) != len(coords):
            raise LeftOut("a stage of another form")
        self.indices = dict(zip(names, coords))
        body = None
        for line in stage.lines[1 if arguments else 0:]:
            if line.startswith("graph.yield"):
                body = self.values[line.split()[1]]
            else:
                self.operation(line)
        if body is None or len(body) > 200000:
            raise LeftOut("an expression that is too large")
        if stage.fold:
            axes = " ".join(f"(k{i} {n})" for i, n in enumerate(stage.reduce))
            init = re.sub(r"\s+", "", stage.init or "default")
            body = f"(fold {stage.fold}:{stage.type.split('x')[-1].strip('>')} init={init} ({axes}) {body})"
        axes = " ".join(f"(d{i} {n})" for i, n in enumerate(stage.sizes))
        return f"({axes}) {body}"

    def operation(self, line):
        match = re.match(r"(%\w+) = graph\.(\w+) *(.*)", line)
        if not match:
            raise LeftOut(f"unknown: {line[:60]}")
        result, op, rest = match.groups()
        if op == "load":
            self.values[result] = self.load(rest)
        elif op == "apply":
            fn, arguments, types = re.match(r"(\w+)\((.*?)\)(?: \{.*\})? : (.*)", rest).groups()
            arguments = split_top(arguments)
            if fn == "select" and arguments[0] in self.insides:  # where the coordinates decide: a guard
                self.values[result] = f"(guard {self.insides[arguments[0]]} {self.values[arguments[1]]} {self.values[arguments[2]]})"
            else:
                self.values[result] = f"({fn}:{self.word(types)} {' '.join(self.values[a] for a in arguments)})"
        elif op == "scalar_cast":
            value, saturate, types = re.match(r"(%\w+)( saturate)? *(?:\{.*\})? ?: (.*)", rest).groups()
            self.values[result] = f"(cast{'-saturate' if saturate else ''}:{self.word(types)} {self.values[value]})"
        elif op == "literal":
            value, kind = rest.rsplit(" : ", 1)
            self.values[result] = literal(value.split(" : ")[0], kind)
        elif op == "coord":
            mapping, coords = re.match(r"\[affine_map<(.*)>\] *\((.*?)\)", rest).groups()
            parts, names = affine_parts(mapping, [self.index(c) for c in split_top(coords)])
            self.values[result] = f"(load iota {affine(parts[0], names)})"
        elif op == "to_index":
            value, size = re.match(r"(%\w+) in <(.*?)>", rest).groups()
            self.indices[result] = ("data", f"(to_index:{self.word(size)} {self.values[value]})")
        elif op == "inside":
            mapping, coords = re.match(r"\[affine_set<(.*)>\] *\((.*?)\)", rest).groups()
            self.insides[result] = conditions(mapping, [self.index(c) for c in split_top(coords)])
            self.values[result] = f"(guard {self.insides[result]} (lit:true:i1) (lit:false:i1))"
        else:
            raise LeftOut(f"graph.{op}")

    def index(self, name):
        if name not in self.indices or isinstance(self.indices[name], tuple):
            raise LeftOut("a coordinate that data gives")
        return self.indices[name]

    def load(self, rest):
        match = re.match(r"(%\w+) *\[affine_map<(.*?)>\] *\((.*?)\)(?: guard affine_set<(.*)> else (%\w+) : \S+)?(?: \{.*\})? : (.*)", rest)
        if not match:
            raise LeftOut(f"a load of another form")
        tensor, mapping, coords, guard, other, _ = match.groups()
        if tensor not in self.tensors:
            raise LeftOut(f"a load of {tensor}")
        values, names = [], []
        positions = []
        for name in split_top(coords):
            index = self.indices.get(name)
            if isinstance(index, tuple):
                self.bound += 1
                names.append(f"g{self.bound}")
                values.append(index[1])
                positions.append(names[-1])
            else:
                positions.append(self.index(name))
        parts, where = affine_parts(mapping, positions)
        text = f"(load {self.tensors[tensor]} {' '.join(affine(p, where) for p in parts)})".replace(" )", ")")
        if guard:
            text = f"(guard {conditions(guard, positions)} {text} {self.values[other]})"
        return f"(at ({' '.join(values)}) ({' '.join(names)}) {text})" if values else text

    @staticmethod
    def word(text):
        return re.sub(r"[\s()]+", "", text)


def literal(value, kind):
    try:
        value = repr(float(value)) if re.search(r"f\d|bf", kind) and not value.startswith("0x") else value
    except ValueError:
        pass
    return f"(lit:{value}:{kind.strip()})"


class Kernel:
    def __init__(self, arguments, attributes):
        self.arguments, self.attributes, self.lines = arguments, attributes, []

    @property
    def rows(self):
        match = re.search(r"rows = (\d+)", self.attributes)
        return int(match.group(1)) if match else 0

    def stages(self):
        """[Stage], [returned names]."""
        symbols = re.search(r"symbols = \[(.*?)\]", self.attributes)
        if symbols and symbols.group(1).strip():
            raise LeftOut("symbolic sizes")
        stages, current, returned = [], None, None
        for line in self.lines:
            if current is not None:
                if line == "}":
                    current = None
                else:
                    current.lines.append(line)
            elif " = graph.stage " in line:
                current = Stage(line)
                stages.append(current)
            elif line.startswith("graph.return"):
                returned = split_top(line[len("graph.return"):].split(" : ")[0])
            else:
                raise LeftOut(f"not a stage: {line[:60]}")
        return stages, returned


def read(text):
    """{name: Kernel}, [(fused kernel's name, rows, arguments, lines)]."""
    kernels, certificates, current, depth = {}, [], None, 0
    for line in (l.strip() for l in text.splitlines()):
        if current is None:
            kernel = re.match(r"graph\.kernel @(\S+?)\((.*)\) -> .*?(?:attributes (\{.*\}) )?\{$", line)
            certificate = re.match(r"graph\.certificate @\S+ for @(\S+) rows\((\d+)\)", line)
            if kernel:
                arguments = [a.split(":")[0].strip() for a in split_top(kernel.group(2))]
                current = kernels[kernel.group(1)] = Kernel(arguments, kernel.group(3) or "")
                depth = 1
            elif certificate:
                current = Kernel([], "")
                certificates.append((certificate.group(1), int(certificate.group(2)), current))
                depth = 1
            continue
        if line == "}":
            depth -= 1
            if depth == 0:
                current = None
                continue
        elif line.endswith("{"):
            depth += 1
        current.lines.append(line)
    return kernels, certificates


def block(name, rows, region, kernels):
    """The text of one kernel block."""
    fused = kernels[name]
    out = [f"kernel {name} rows {rows}"]
    if fused.rows != rows:
        raise LeftOut("rows of kernel and certificate differ")
    ids, shapes, returned = {}, {}, None
    for line in region.lines:
        if line.startswith("^bb0"):
            for i, argument in enumerate(split_top(re.match(r"\^bb0\((.*)\):", line).group(1))):
                value, kind = argument.split(":", 1)
                ids[value.strip()], shapes[value.strip()] = f"in{i}", dims_of(kind)
        elif line.startswith("graph.return"):
            returned = split_top(line[len("graph.return"):].split(" : ")[0])
        elif " = graph.call " in line:
            results, callee, arguments = re.match(r"(.*?) = graph\.call @(\S+?)\((.*?)\)", line).groups()
            if ":" in results:
                raise LeftOut("a call with several results")
            types = line.rsplit("->", 1)[1]
            stages, given = kernels[callee].stages()
            tensors = dict(zip(kernels[callee].arguments, (ids[a] for a in split_top(arguments))))
            for stage in stages:
                text = Printer(tensors).stage(stage)
                tensors[stage.name] = f"o{results}{stage.name}"
                out.append(f"original {tensors[stage.name]} {text}")
            ids[results] = tensors[given[0]]
            shapes[results] = dims_of(types)
        elif " = graph.reshape " in line:
            result, source, kind = re.match(r"(%\w+) = graph\.reshape (%\w+).*-> (tensor<.*>)", line).groups()
            to = dims_of(kind)
            address, stride = [], 1
            for i, n in reversed(list(enumerate(to))):
                address.append(f"(* d{i} {stride})")
                stride *= n
            address = f"(+ {' '.join(address)})" if address else "0"
            indices, stride = [], 1
            for n in reversed(shapes[source]):
                indices.insert(0, f"(mod (div {address} {stride}) {n})")
                stride *= n
            axes = " ".join(f"(d{i} {n})" for i, n in enumerate(to))
            ids[result], shapes[result] = f"o{result}", to
            out.append(f"original o{result} ({axes}) (load {ids[source]}{''.join(' ' + i for i in indices)})")
        elif " = graph.constant " in line:
            result, value, kind = re.match(r"(%\w+) = graph\.constant .*?dense<([^>]*)> : (tensor<[^>]*>)", line).groups()
            if re.search(r"[\[\"]", value):
                raise LeftOut("a constant of several values")
            to = dims_of(kind)
            axes = " ".join(f"(d{i} {n})" for i, n in enumerate(to))
            ids[result], shapes[result] = f"o{result}", to
            out.append(f"original o{result} ({axes}) {literal(value, kind.split('x')[-1].split('<')[-1].strip('>'))}")
        else:
            raise LeftOut(f"in the certificate: {line[:60]}")
    stages, given = fused.stages()
    tensors = {a: f"in{i}" for i, a in enumerate(fused.arguments)}
    for stage in stages:
        text = Printer(tensors).stage(stage)
        tensors[stage.name] = f"f{stage.name}"
        out.append(f"fused {tensors[stage.name]} {text}")
    if len(returned) != len(given):
        raise LeftOut("results of kernel and certificate differ in number")
    out += [f"result {ids[o]} {tensors[f]}" for o, f in zip(returned, given)]
    return "\n".join(out)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        kernels, certificates = read(file.read())
    print("dlc-groups 1")
    written = 0
    for name, rows, region in certificates:
        try:
            print(block(name, rows, region, kernels))
            written += 1
        except LeftOut as reason:
            print(f"{name}: {reason}", file=sys.stderr)
    print("end")
    print(f"{written} kernels, {len(certificates) - written} left out", file=sys.stderr)


if __name__ == "__main__":
    main()
