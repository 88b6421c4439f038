"""Loaded models: numpy (or DLPack) arrays in, arrays out."""

import os
import shutil
import subprocess
import tempfile

import numpy as np

from . import _runtime, errors

# DLPack type codes (dlpack.h) to numpy dtypes; bfloat16 and smaller need ml_dtypes.
_CODES = {0: "int", 1: "uint", 2: "float", 5: "complex", 6: "bool"}
_ML = {(4, 16): "bfloat16", (7, 8): "float8_e3m4", (8, 8): "float8_e4m3", (10, 8): "float8_e4m3fn",
       (11, 8): "float8_e4m3fnuz", (12, 8): "float8_e5m2", (13, 8): "float8_e5m2fnuz", (14, 8): "float8_e8m0fnu",
       (0, 4): "int4", (1, 4): "uint4", (0, 2): "int2", (1, 2): "uint2", (17, 4): "float4_e2m1fn",
       (15, 6): "float6_e2m3fn", (16, 6): "float6_e3m2fn"}


def dtype_of(code, bits):
    """The numpy dtype of a DLPack type."""
    if (code, bits) in _ML:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, _ML[code, bits]))
    if code == 6:
        return np.dtype(bool)
    if code in _CODES:
        return np.dtype(f"{_CODES[code]}{bits}")
    raise errors.RunError(f"no numpy dtype for DLPack type code {code} with {bits} bits")


def _is_foreign(dtype):
    """A type of ml_dtypes: numpy and .npy files have no name for it (nor always a kind of their own)."""
    return dtype.type.__module__.startswith("ml_dtypes")


# torch's names of types that numpy has not, and ml_dtypes' names.
_TORCH = {"bfloat16": "bfloat16", "float8_e4m3fn": "float8_e4m3fn", "float8_e4m3fnuz": "float8_e4m3fnuz",
          "float8_e5m2": "float8_e5m2", "float8_e5m2fnuz": "float8_e5m2fnuz", "float8_e8m0fnu": "float8_e8m0fnu"}


def _is_torch(value):
    return type(value).__module__.split(".")[0] == "torch"


def _from_torch(tensor):
    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        raise errors.RunError(f"a tensor is on the device {tensor.device}: the model runs on the CPU, pass tensor.cpu()")
    if str(tensor.layout) != "torch.strided":
        raise errors.RunError(f"a tensor has the sparse layout {tensor.layout}: pass tensor.to_dense()")
    tensor = tensor.resolve_neg()
    name = _TORCH.get(str(tensor.dtype).removeprefix("torch."))
    if name is None:
        return tensor.numpy()
    import ml_dtypes
    import torch

    bits = torch.int16 if tensor.element_size() == 2 else torch.uint8
    return tensor.contiguous().view(bits).numpy().view(getattr(ml_dtypes, name))


def _to_torch(array):
    import torch

    if isinstance(array, list):
        return [_to_torch(a) for a in array]
    for name, ml in _TORCH.items():
        if array.dtype.name == ml and hasattr(torch, name):
            bits = np.int16 if array.dtype.itemsize == 2 else np.uint8
            return torch.from_numpy(array.view(bits)).view(getattr(torch, name))
    try:
        return torch.from_numpy(array)
    except TypeError:
        return array  # a type torch has not


def as_array(value):
    """numpy view of an array-like, a DLPack exporter, or a Python scalar or list (no copy where possible)."""
    if _is_torch(value):
        return _from_torch(value)
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    return np.from_dlpack(value)


def _format(dtype):
    """The buffer protocol's name of a dtype, "" where it has none."""
    return dtype.char if dtype.char in "?bBhHiIlLefd" and not _is_foreign(dtype) else ""


def _address(array):
    """Where a contiguous array's elements are."""
    try:
        return _runtime.address(array)
    except BufferError:  # of a type that the buffer protocol has no name for
        return array.ctypes.data


def _writable(value, want, shape):
    """numpy's view of an array that a run may write: the caller's memory, of the right type and shape."""
    what = f"out: the array of output '{want['name']}'"
    if any(d < 0 for d in shape):
        raise errors.RunError(f"out: output '{want['name']}' has a shape that the data tell: pass None for it")
    if not isinstance(value, np.ndarray) and not _is_torch(value):
        raise errors.RunError(f"{what} is of type {type(value).__name__}, not a numpy array or a torch tensor")
    if _is_torch(value) and (not value.is_contiguous() or value.is_neg()):
        raise errors.RunError(f"{what} is not contiguous")
    array = as_array(value)
    if array.dtype != want["dtype"] and not _has_bits_of(array.dtype, want["dtype"]):
        raise errors.RunError(f"{what} has dtype {array.dtype}, the model gives {want['dtype']}")
    if array.shape != tuple(shape):
        raise errors.RunError(f"{what} has shape {list(array.shape)}, these inputs give {list(shape)}")
    if not array.flags.c_contiguous:
        raise errors.RunError(f"{what} is not contiguous")
    if not array.flags.writeable:
        raise errors.RunError(f"{what} is read-only")
    if not array.flags.aligned:
        raise errors.RunError(f"{what} is not aligned to its elements")
    return array


def _has_bits_of(dtype, foreign):
    """Whether bit patterns of this type stand for a type that numpy does not have."""
    return _is_foreign(foreign) and dtype.kind in "ui" and dtype.itemsize == foreign.itemsize


def _group(tensors):
    """[(name, number or list of numbers)]: the tensors of a sequence are called name#0, name#1, ..."""
    groups = []
    for i, tensor in enumerate(tensors):
        name, mark, number = tensor["name"].rpartition("#")
        if mark and number == "0":
            groups.append((name, [i]))
        elif mark and groups and isinstance(groups[-1][1], list) and (name, number) == (groups[-1][0], str(len(groups[-1][1]))):
            groups[-1][1].append(i)
        else:
            groups.append((tensor["name"], i))
    return groups


class _Callable:
    """The shared surface: run(list | dict) and calls with positional or named inputs.

    inputs, outputs: one dict a tensor: name, dtype (numpy's), shape (a number, or the text of a symbol's expression).
    info: the same and more; see _complete.
    """

    inputs = outputs = _names = ()

    def _describe_as(self, info):
        """Sets info, inputs and outputs, and what every run asks of them."""
        self.info = info
        self.inputs, self.outputs = info["inputs"], info["outputs"]
        self._input_groups, self._output_groups = _group(self.inputs), _group(self.outputs)
        self._lists = any(isinstance(place, list) for _, place in self._input_groups + self._output_groups)
        self._names = [name for name, _ in self._input_groups]

    def _feeds(self, feeds):
        if not self._lists:
            return self._values(feeds, self._names)
        groups = self._input_groups
        flat = []
        for value, (name, place) in zip(self._values(feeds, self._names), groups):
            if not isinstance(place, list):
                flat.append(value)
            elif not isinstance(value, (list, tuple)) or len(value) != len(place):
                raise errors.RunError(f"input '{name}' is a list of {len(place)} arrays")
            else:
                flat.extend(value)
        return flat

    def _outs(self, out):
        """`out` as one entry an output: an array to write, or None."""
        groups = self._output_groups
        names = [name for name, _ in groups]
        if isinstance(out, dict):
            if unknown := sorted(set(out) - set(names)):
                raise errors.RunError(f"out: outputs are {names}; unknown: {unknown}")
            out = [out.get(name) for name in names]
        elif not isinstance(out, (list, tuple)):
            out = [out]
        if len(out) != len(names):
            raise errors.RunError(f"out: the model has {len(names)} outputs {names}, got {len(out)}")
        flat = []
        for value, (name, place) in zip(out, groups):
            if not isinstance(place, list):
                flat.append(value)
            elif value is None:
                flat.extend([None] * len(place))
            elif not isinstance(value, (list, tuple)) or len(value) != len(place):
                raise errors.RunError(f"out: output '{name}' is a list of {len(place)} arrays")
            else:
                flat.extend(value)
        return flat

    def _results(self, arrays):
        if not self._lists:
            return arrays
        return [[arrays[i] for i in place] if isinstance(place, list) else arrays[place] for _, place in self._output_groups]

    def _values(self, feeds, names):
        if isinstance(feeds, dict):
            if len(feeds) == len(names):
                try:
                    return [feeds[name] for name in names]
                except KeyError:
                    pass
            unknown = sorted(set(feeds) - set(names))
            missing = [n for n in names if n not in feeds]
            if unknown or missing:
                raise errors.RunError(f"inputs are {names}" + (f"; unknown: {unknown}" if unknown else "")
                                      + (f"; missing: {missing}" if missing else ""))
            return [feeds[n] for n in names]
        feeds = list(feeds) if isinstance(feeds, (list, tuple)) else [feeds]
        if len(feeds) != len(names):
            raise errors.RunError(f"the model has {len(names)} inputs {names}, got {len(feeds)}")
        return feeds

    def __call__(self, *args, **named):
        out = named.pop("out", None) if "out" not in self._names else None
        if args and named:
            raise errors.RunError("give inputs either in order or by name")
        values = list(args) if args or not named else [named[n] for n in named]
        results = self.run(list(args) if args or not named else named, out)
        if any(_is_torch(v) for value in values for v in (value if isinstance(value, (list, tuple)) else [value])):
            results = [r if _is_torch(r) else _to_torch(r) for r in results]
        return results[0] if len(results) == 1 else results


def _complete(info, target):
    """info as users get it: dtypes, target, version and memory beside what the artifact says of itself.

    inputs, outputs: [{name, dtype, shape}]; symbols: [{name, min, max, typical}], max None when unbounded; target;
    version: dlc's; memory: {"weights": bytes, "workspace": bytes of a run where the sizes are fixed and the report is
    there, else None}; kernels: how many; and triple, cpu, features, flags, fp.
    """
    for tensor in info["inputs"] + info["outputs"] + info.get("states", []):
        tensor["dtype"] = dtype_of(tensor["type_code"], tensor["type_bits"])
        tensor["shape"] = tensor.pop("dims", tensor.get("shape"))
    for symbol in info.get("symbols", []):
        if symbol["max"] == 2**63 - 1:
            symbol["max"] = None
    info["target"] = target or next((f[8:] for f in info.get("flags", "").split() if f.startswith("-target=")), "host")
    info["version"] = info.get("dlc_version", "")
    info["memory"] = {"weights": info.get("weights_bytes", 0)}
    return info


class Model(_Callable):
    """A compiled model in this process. Runs may come from several threads; they take turns."""

    def __init__(self, path, threads=0, holder=None, target=None):
        self.path = os.path.abspath(path)
        self._holder = holder  # the temporary folder the artifact lives in
        try:
            self._model = _runtime.Model(self.path, threads=threads)
        except _runtime.StatusError as e:
            raise errors.RunError(str(e)) from None
        self._describe_as(_complete(self._model.info(), target))
        self._model.expect(np.ndarray, [_format(t["dtype"]) for t in self.inputs], [_format(t["dtype"]) for t in self.outputs],
                           [t["dtype"] for t in self.outputs])
        self.info["memory"]["workspace"] = (self.report or {}).get("arena_bytes")

    @property
    def report(self):
        """The compile report as a dict, when the artifact has its .json beside it (-emit=shared,report); else None.

        schema_version, target, operators, kernels_native, arena_bytes, weights_bytes, compile_seconds,
        compile_peak_bytes, stages {name: seconds}, kernels [{name, nest, calls, seconds, object_bytes, ...}].
        """
        import json

        path = os.path.splitext(self.path)[0] + ".json"
        if not os.path.exists(path):
            return None
        with open(path) as f:
            return json.load(f)

    def run(self, feeds, out=None):
        """Runs the model.

        feeds: arrays in graph-input order, or {name: array}; dtypes and shapes as `inputs` says. Bit patterns (uint8,
        uint16) are taken for types numpy has not.
        out: arrays or tensors that the results are written to, in graph-output order or by name; None stands for one that
        is made. They are contiguous, of the output's dtype and shape, and share no memory with an input or each other.
        Returns numpy arrays in graph-output order, those of `out` themselves. Raises RunError for what does not fit.
        """
        values = self._feeds(feeds)
        given = None if out is None else self._outs(out)
        try:
            results = self._model.call(values, given)
        except _runtime.StatusError as e:
            raise errors.RunError(str(e)) from None
        return self._results(self._run_any(values, given) if results is None else results)

    def _run_any(self, values, given):
        """The same of whatever becomes an array, with outputs whose shapes the data tell; says what does not fit."""
        arrays = []
        for value, want in zip(values, self.inputs):
            array = value if type(value) is np.ndarray else as_array(value)
            if array.dtype != want["dtype"] and not _has_bits_of(array.dtype, want["dtype"]):
                raise errors.RunError(f"input '{want['name']}' has dtype {array.dtype}, the model expects {want['dtype']}")
            if not array.flags.c_contiguous:
                array = np.ascontiguousarray(array)
            arrays.append(array)
        ins = [(_address(a), a.shape) for a in arrays]
        try:
            shapes = self._model.output_shapes(ins)
            results, outs = [], []
            for shape, want, own in zip(shapes, self.outputs, given or [None] * len(shapes)):
                if own is not None:
                    results.append(own)
                    outs.append((_address(_writable(own, want, shape)), shape))
                elif any(d < 0 for d in shape):  # the data tell, or the run refuses these inputs
                    results.append(None)
                    outs.append((0, [0] * len(shape)))
                else:
                    result, address = self._model.output(len(results), shape)
                    results.append(result)
                    outs.append((address, shape))  # not NULL, even if it is empty
            produced = self._model.run(ins, outs)
        except _runtime.StatusError as e:
            raise errors.RunError(str(e)) from None
        for i, (shape, data) in enumerate(produced):
            if results[i] is None:
                results[i] = np.frombuffer(data or b"", self.outputs[i]["dtype"]).reshape(shape).copy()
        return results

    @property
    def state_length(self):
        """Rows in the caches that the model keeps (compiled with state=...); 0 without. `info["states"]` lists them."""
        return self._model.state_length()

    @property
    def state_bytes(self):
        """Memory of these caches, with the room they have for more rows."""
        return self._model.state_bytes()

    def truncate(self, length=0):
        """Keeps the first `length` rows of the caches that grow; 0 begins anew, all caches. Raises RunError when there are fewer."""
        try:
            self._model.state_truncate(length)
        except _runtime.StatusError as e:
            raise errors.RunError(str(e)) from None

    def reserve(self, rows):
        """Room for at least `rows` rows (pages) in caches whose rows are replaced and whose size no input tells; what is in them stays,
        new rows are zeros. Raises RunError when there is no such cache, or for more than the model was built for."""
        try:
            self._model.state_reserve(rows)
        except _runtime.StatusError as e:
            raise errors.RunError(str(e)) from None

    def save(self, path):
        """Copies the artifact (and its header and weights, if any) to `path` and beside it."""
        base, target = os.path.splitext(self.path)[0], os.path.splitext(os.fspath(path))[0]
        shutil.copyfile(self.path, path)
        for extension in (".h", ".json"):
            if os.path.exists(base + extension):
                shutil.copyfile(base + extension, target + extension)
        weights = base + ".weights"  # found by the name the model was compiled with
        if os.path.exists(weights):
            shutil.copyfile(weights, os.path.join(os.path.dirname(os.path.abspath(path)), os.path.basename(weights)))


class InterpretedModel(_Callable):
    """A model run by the reference interpreter, in a process of its own at each run. Slow and exact."""

    def __init__(self, path, program, holder, flags):
        self.path, self._program, self._holder, self._flags = path, program, holder, flags
        self._describe_as(self._describe())
        self.report = None

    def _call(self, *options):
        command = [self._program, self.path, "-target=interp", "-diagnostics=json", *self._flags, *options]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if done.returncode:
            from .compiler import _error

            raise _error(done.returncode, done.stderr)
        return done.stdout

    def _describe(self):
        import json

        return _complete(json.loads(self._call("-info")), "interp")

    def run(self, feeds, out=None):
        feeds = self._feeds(feeds)
        given = self._outs(out) if out is not None else [None] * len(self.outputs)
        with tempfile.TemporaryDirectory(prefix="dlc-run-") as folder:
            files = []
            for i, (value, want) in enumerate(zip(feeds, self.inputs)):
                array = np.asarray(as_array(value), order="C")  # ascontiguousarray makes a scalar 1-d
                if _is_foreign(array.dtype):  # .npy has no name for it: its bits
                    array = array.view("V2" if array.dtype.itemsize == 2 else np.uint8)
                files.append(os.path.join(folder, f"in{i}.npy"))
                np.save(files[-1], array)
            self._call(*(["-inputs=" + ",".join(files)] if files else []), "-outputs=" + folder)
            results = []
            for i, want in enumerate(self.outputs):
                array = np.load(os.path.join(folder, f"output_{i}.npy"))
                array = array.view(want["dtype"]) if _is_foreign(want["dtype"]) else array
                if given[i] is not None:
                    _writable(given[i], want, array.shape)[...] = array
                results.append(array if given[i] is None else given[i])
            return self._results(results)


class SequenceModel(_Callable):
    """A model with sequences among its inputs, compiled when a run tells how long they are: once for each combination of
    the shapes of their arrays. `compile` gives one when no shapes were given for them."""

    def __init__(self, sequences, compile_for):
        self.sequences, self._compile_for = list(sequences), compile_for
        self._models = {}

    def run(self, feeds, out=None):
        given = feeds.values() if isinstance(feeds, dict) else feeds
        lists = [feeds[n] for n in self.sequences] if isinstance(feeds, dict) else [v for v in given if isinstance(v, (list, tuple))]
        if len(lists) != len(self.sequences):
            raise errors.RunError(f"inputs {self.sequences} are lists of arrays, got {len(lists)} lists")
        shapes = {}
        for name, arrays in zip(self.sequences, lists):
            shapes[name] = [len(arrays)]
            shapes.update((f"{name}#{i}", list(np.shape(a))) for i, a in enumerate(arrays))
        key = str(sorted(shapes.items()))
        if key not in self._models:
            self._models[key] = self._compile_for(shapes)
        return self._models[key].run(feeds, out)


def load(path, threads=0):
    """Loads a compiled model (a shared object, and the weights file beside it).

    threads: workers of a run; 0: DLC_NUM_THREADS, else the CPUs of the process.
    Raises RunError when it is no model, is for another CPU, or its weights are missing.
    """
    return Model(path, threads=threads)
