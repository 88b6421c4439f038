"""Kernel library '%NAME%', compiled by dlc %VERSION%: its operations as functions over numpy arrays, torch tensors and
whatever speaks DLPack.

    import %NAME%
    c = %NAME%.matmul_nn_f32(a, b)          # sizes come from the shapes, the result is new
    %NAME%.matmul_nn_f32(a, b, out=c)       # or is written into an array
    %NAME%.operations                       # name -> Operation: dims, tensors, instances

A library for CUDA takes arrays in the device's memory: torch tensors, and whatever has `__cuda_array_interface__`
(%NAME%.device makes such arrays without torch). `stream=` is a CUstream as a number; default: torch's current one, else the
default stream.

bf16 arrays are ml_dtypes.bfloat16 where that is installed, or uint16. Needs numpy alone."""
import ctypes
import json
import os

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
with open(os.path.join(ROOT, "share", "dlck", "%NAME%.json")) as file:
    table = json.load(file)

ON_DEVICE = table["device"] == "cuda"
STATUS = ["ok", "invalid argument", "shape mismatch", "element type mismatch", "device mismatch", "out of memory",
          "workspace too small", "unsupported CPU", "unsupported device", "ABI mismatch", "bad weights", "bad library",
          "data error", "internal error"]
DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": bfloat16 or np.uint16, "i8": np.int8, "u8": np.uint8,
          "i32": np.int32, "i64": np.int64, "f64": np.float64, "bool": np.bool_}


class LibraryError(RuntimeError):
    """A function returned a status: `status` is dlc_status, the text is the library's."""

    def __init__(self, status, text):
        super().__init__(f"{STATUS[status] if 0 <= status < len(STATUS) else status}: {text}")
        self.status = status


_lib = ctypes.CDLL(os.path.join(ROOT, "lib", "lib%NAME%.so"))
for _name, _result in (("operation", ctypes.c_void_p), ("last_error", ctypes.c_char_p), ("select", ctypes.c_int64),
                       ("num_operations", ctypes.c_int64)):
    getattr(_lib, "%NAME%_" + _name).restype = _result
_lib.%NAME%_operation.argtypes = [ctypes.c_int64]
_stream = [ctypes.c_void_p] * ON_DEVICE
_lib.%NAME%_run.argtypes = [ctypes.c_void_p] * 3 + _stream
_lib.%NAME%_run_instance.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p] + _stream
_lib.%NAME%_packed_size.restype = ctypes.c_int64
_lib.%NAME%_packed_size.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
_lib.%NAME%_pack.argtypes = [ctypes.c_void_p, ctypes.c_int64] + [ctypes.c_void_p] * 3 + _stream
_lib.%NAME%_select.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


def last_error():
    return _lib.%NAME%_last_error().decode()


def set_num_threads(count):
    """Threads of a call; 0 is the default: DLC_NUM_THREADS, OMP_NUM_THREADS, else the CPUs of this process."""
    if not ON_DEVICE:  # there the host only launches
        _check(_lib.%NAME%_set_num_threads(ctypes.c_int32(count)))


def unload():
    """Gives back what calls loaded onto devices, when all their work is done."""
    if ON_DEVICE:
        _check(_lib.%NAME%_unload())


def _check(status):
    if status:
        raise LibraryError(status, last_error())


def _to_numpy(x, dtype):
    """A compact array of the element type; `x` itself where it is one."""
    if type(x).__module__.split(".")[0] == "torch":
        x = x.detach().contiguous()
        if str(x.dtype) == "torch.bfloat16":
            x = x.view(__import__("torch").int16).numpy().view(DTYPES["bf16"])
        else:
            x = x.numpy()
    elif not isinstance(x, np.ndarray):
        x = np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)
    wanted = np.dtype(DTYPES[dtype])
    if x.dtype != wanted and not (dtype in ("bf16", "f16") and x.dtype == np.uint16):
        raise TypeError(f"expects {dtype}, got {x.dtype}")
    return np.ascontiguousarray(x)


def _to_torch(x):
    import torch
    if bfloat16 is not None and x.dtype == bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


class _OnDevice:
    """An array in a device's memory, as operations see it; `owner` keeps the memory."""

    def __init__(self, owner, shape, address, sizes=None):
        self.owner, self.shape, self.ndim, self.address, self.sizes = owner, tuple(shape), len(shape), address, sizes


TORCH_TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8", "i32": "int32",
               "i64": "int64", "f64": "float64", "bool": "bool"}
SHORT_TYPES = {"f16": ("<f2", "<u2", "<i2"), "bf16": ("<V2", "|V2", "<u2", "<i2")}


def _is_torch(x):
    return type(x).__module__.split(".")[0] == "torch"


def _to_device(x, dtype):
    """The same for an array in the device's memory; a compact copy where it is none."""
    if isinstance(x, _OnDevice):
        return x
    if _is_torch(x):
        if not x.is_cuda:
            raise TypeError("lies on the host, the library runs on a device")
        if str(x.dtype) != "torch." + TORCH_TYPES[dtype]:
            raise TypeError(f"expects {dtype}, got {x.dtype}")
        x = x.detach().contiguous()
        return _OnDevice(x, x.shape, x.data_ptr())
    if not hasattr(x, "__cuda_array_interface__"):
        raise TypeError("lies on the host, the library runs on a device")
    said = x.__cuda_array_interface__
    if said["typestr"] not in SHORT_TYPES.get(dtype, (np.dtype(DTYPES[dtype]).str,)):
        raise TypeError(f"expects {dtype}, got {said['typestr']}")
    size, step, strides = np.dtype(DTYPES[dtype]).itemsize, 1, said.get("strides")
    for extent, stride in zip(reversed(said["shape"]), reversed(strides or ())):
        if extent > 1 and stride != step * size:
            raise TypeError("is not compact")
        step *= extent
    return _OnDevice(x, said["shape"], said["data"][0])


def _like(owner, shape, dtype):
    """A new array in the device's memory, of the kind that `owner` is."""
    if _is_torch(owner):
        import torch
        return torch.empty(shape, dtype=getattr(torch, TORCH_TYPES[dtype]), device=owner.device)
    if hasattr(owner, "device") and hasattr(owner.device, "empty"):
        return owner.device.empty(shape, DTYPES[dtype])
    raise TypeError(f"give 'out': nothing is known of how to make a {type(owner).__name__}")


def _address_of(x):
    return x if isinstance(x, int) else x.address if hasattr(x, "address") else x.ctypes.data


def evaluate(extent, dims):
    dim, offset, divisor, factor = extent
    return factor if dim < 0 else max(dims[dim] + offset, 0) // divisor * factor


class PackedArray(np.ndarray):
    """What Operation.pack returns: bytes, and the sizes of what was packed."""
    sizes = {}


class Operation:
    """One function of the library. `dims`, `tensors`, `instances`, `attributes`, `text` are what the table says of it."""

    def __init__(self, index, entry):
        self.__dict__.update(entry)
        self.index = index
        self.inputs = [t for t in self.tensors if not t["output"]]
        self.outputs = [t for t in self.tensors if t["output"]]
        self.names = [d["name"] for d in self.dims]
        self.packed = entry.get("packed")
        self._address = _lib.%NAME%_operation(index)

    def shape(self, tensor, sizes):
        return tuple(evaluate(e, sizes) for e in tensor["extents"])

    def solve(self, arrays, given):
        """The size of each dim from the inputs' shapes. ValueError names what does not fit."""
        sizes = [given.get(name) for name in self.names]
        unknown = set(given) - set(self.names)
        if unknown:
            raise TypeError(f"{self.name}: no dim {sorted(unknown)}; there are {self.names}")
        for tensor, array in zip(self.inputs, arrays):
            if getattr(array, "sizes", None):
                for name, size in array.sizes.items():
                    sizes[self.names.index(name)] = size
                continue
            if array.ndim != len(tensor["extents"]):
                raise ValueError(f"{self.name}: '{tensor['name']}' has rank {array.ndim}, expects {tensor['shape']}")
            for extent, size in zip(tensor["extents"], array.shape):
                if extent[0] >= 0 and extent[2] == 1 and sizes[extent[0]] is None:
                    sizes[extent[0]] = size // extent[3] - extent[1]
        for i, dim in enumerate(self.dims):
            if sizes[i] is None and dim["min"] == dim["max"]:
                sizes[i] = dim["min"]
        for i, name in enumerate(self.names):
            if sizes[i] is None:
                raise TypeError(f"{self.name}: the shapes do not tell '{name}'; give it as a keyword")
        for tensor, array in zip(self.inputs, arrays):
            if not getattr(array, "sizes", None) and self.shape(tensor, sizes) != array.shape:
                raise ValueError(f"{self.name}: '{tensor['name']}' is {array.shape}, expects {tensor['shape']} = "
                                 f"{self.shape(tensor, sizes)} for {dict(zip(self.names, sizes))}")
        return sizes

    def run(self, sizes, arrays, instance=None, stream=None):
        """The function itself: sizes and arrays (or addresses) in its order."""
        dims = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
        pointers = (ctypes.c_void_p * len(arrays))(*[_address_of(a) for a in arrays])
        last = [stream] * ON_DEVICE
        if instance is None:
            _check(_lib.%NAME%_run(self._address, dims, pointers, *last))
        else:
            _check(_lib.%NAME%_run_instance(self._address, instance, dims, pointers, *last))

    def pack(self, matrix, instance=-1, stream=None, **sizes):
        """The packed form of an operation's packed tensor: a matrix of the library's element type, or its sizes in `sizes`
        where the shape does not tell them. The result is bytes for this machine, or for one instance."""
        matrix = (_to_device if ON_DEVICE else _to_numpy)(matrix, self.packed["dtype"])
        for extent, size in zip(self.packed["extents"], matrix.shape):
            if extent[0] >= 0:
                sizes[self.names[extent[0]]] = size
        dims = (ctypes.c_int64 * len(self.names))(*[sizes.get(name, -1) for name in self.names])
        size = _lib.%NAME%_packed_size(self._address, instance, dims)
        if size < 0:
            raise ValueError(f"{self.name}: no instance takes a packed {self.packed['shape']} of {matrix.shape}")
        if ON_DEVICE:
            room = _like(matrix.owner, (size,), "u8")
            packed = _to_device(room, "u8")
            packed.sizes = dict(sizes)
            _check(_lib.%NAME%_pack(self._address, instance, dims, matrix.address, packed.address, stream))
            return packed
        room = np.empty(size + 63, np.uint8)
        packed = room[-room.ctypes.data % 64:][:size]
        _check(_lib.%NAME%_pack(self._address, instance, dims, ctypes.c_void_p(matrix.ctypes.data), ctypes.c_void_p(packed.ctypes.data)))
        packed = packed.view(PackedArray)
        packed.sizes = {name: size for name, size in sizes.items()}
        return packed

    def select(self, **sizes):
        """The number of the instance that a call with these sizes runs; -1: there is none."""
        dims = (ctypes.c_int64 * max(len(self.names), 1))(*[sizes[name] for name in self.names])
        return _lib.%NAME%_select(self._address, dims)

    def __call__(self, *inputs, out=None, stream=None, **sizes):
        if len(inputs) != len(self.inputs):
            raise TypeError(f"{self.name} takes {[t['name'] for t in self.inputs]}, got {len(inputs)} arrays")
        if ON_DEVICE and stream is None and any(_is_torch(x) and x.is_cuda for x in inputs):
            import torch
            stream = torch.cuda.current_stream().cuda_stream
        arrays = []
        for tensor, x in zip(self.inputs, inputs):
            if self.packed and tensor["name"] == self.packed["tensor"]:
                arrays.append(x if getattr(x, "sizes", None) else self.pack(x, stream=stream) if ON_DEVICE else self.pack(x))
                continue
            try:
                arrays.append((_to_device if ON_DEVICE and not self.is_on_host(tensor) else _to_numpy)(x, tensor["dtype"]))
            except TypeError as error:
                raise TypeError(f"{self.name}: '{tensor['name']}' {error}") from None
        solved = self.solve(arrays, sizes)
        shapes = [self.shape(t, solved) for t in self.outputs]
        if out is not None:
            outputs = list(out) if isinstance(out, (tuple, list)) else [out]
            places = [self._check_output(*of) for of in zip(self.outputs, shapes, outputs)]
        elif ON_DEVICE:
            owner = next(a.owner for a in arrays if isinstance(a, _OnDevice) and not a.sizes)
            outputs = [_like(owner, shape, t["dtype"]) for t, shape in zip(self.outputs, shapes)]
            places = [_to_device(x, t["dtype"]) for t, x in zip(self.outputs, outputs)]
        else:
            places = outputs = [np.empty(shape, DTYPES[t["dtype"]]) for t, shape in zip(self.outputs, shapes)]
        # Tensors stand in the function's order, which mixes inputs and outputs.
        left = {"in": iter(arrays), "out": iter(places)}
        self.run(solved, [next(left["out" if t["output"] else "in"]) for t in self.tensors], stream=stream)
        if not ON_DEVICE and any(_is_torch(x) for x in inputs) and out is None:
            outputs = [_to_torch(x) for x in outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def is_on_host(self, tensor):
        """Whether a library for a device takes this tensor from the host's memory: the ends of segments."""
        return bool(self.__dict__.get("segments")) and tensor is self.tensors[self.segments["offsets"]]

    def _check_output(self, tensor, shape, array):
        if ON_DEVICE:
            try:
                placed = _to_device(array, tensor["dtype"])
            except TypeError as error:
                raise TypeError(f"{self.name}: 'out' for '{tensor['name']}' {error}") from None
            given = array.data_ptr() if _is_torch(array) else array.__cuda_array_interface__["data"][0]
            if placed.shape == shape and placed.address == given:
                return placed
        elif isinstance(array, np.ndarray) and array.shape == shape and array.flags.c_contiguous \
                and array.dtype.itemsize == np.dtype(DTYPES[tensor["dtype"]]).itemsize:
            return array
        raise ValueError(f"{self.name}: 'out' for '{tensor['name']}' is not a compact {tensor['dtype']} array of shape {shape}")

    def __repr__(self):
        return f"<{self.name}: {self.text}>"


operations = {entry["name"]: Operation(i, entry) for i, entry in enumerate(table["operations"])}


def __getattr__(name):
    try:
        return operations[name]
    except KeyError:
        raise AttributeError(f"library '%NAME%' has no operation '{name}'") from None


def __dir__():
    return sorted(list(globals()) + list(operations))
