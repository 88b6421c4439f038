"""The C interface by ctypes, and the emulated CUDA driver: what the package's own binding does not reach (device tensors,
streams, failures that are made)."""
import ctypes
import os
import subprocess
import sys

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.abspath(os.environ.get("DLC_BUILD", os.path.join(ROOT, "build")))
DRIVER = os.path.join(BUILD, "lib", "libdlc_emulated_cuda.so")
TARGET = "cuda:sm=90:emulate=on"
CPU, CUDA = 1, 2


def tool(name, *arguments, code=0, **environment):
    """Runs a program of the build; (standard output, standard error)."""
    done = subprocess.run([os.path.join(BUILD, "bin", name), *map(str, arguments)], capture_output=True, text=True, timeout=600,
                          env={**os.environ, **environment})
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def parse(text):
    import onnx.parser  # only where models are made: a bundle of utils/bench/cuda.py has none

    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text)
    onnx.checker.check_model(model)
    return model


def compile_model(text, path, *options):
    """path of the artifact of a model as text; raises with what dlc says."""
    import onnx

    onnx.save(parse(text), f"{path}.onnx")
    done = subprocess.run([os.path.join(BUILD, "bin", "dlc"), f"{path}.onnx", f"-target={TARGET}", "-o", f"{path}.so", "-q", *options],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return f"{path}.so"


def execute(artifact, inputs, folder, settings="", **environment):
    """Runs dlc-exec on the emulated driver; (exit code, standard error, outputs)."""
    files = []
    for i, array in enumerate(inputs):
        files.append(os.path.join(folder, f"in{i}.npy"))
        np.save(files[-1], array)
    env = {**os.environ, "DLC_CUDA_DRIVER": DRIVER, "DLC_EMULATED_CUDA": settings, **environment}
    done = subprocess.run([os.path.join(BUILD, "bin", "dlc-exec"), artifact, "-inputs=" + ",".join(files), f"-outputs={folder}"],
                          capture_output=True, text=True, env=env, timeout=300)
    outputs = []
    while done.returncode == 0 and os.path.exists(os.path.join(folder, f"output_{len(outputs)}.npy")):
        outputs.append(np.load(os.path.join(folder, f"output_{len(outputs)}.npy")))
    return done.returncode, done.stderr, outputs


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class CreateOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("flags", ctypes.c_uint64), ("weights_path", ctypes.c_char_p), ("weights", ctypes.c_void_p),
                ("weights_size", ctypes.c_size_t), ("device_id", ctypes.c_int32), ("num_threads", ctypes.c_int32), ("pf", ctypes.c_void_p),
                ("pf_ctx", ctypes.c_void_p), ("alloc", ctypes.c_void_p), ("free", ctypes.c_void_p), ("alloc_ctx", ctypes.c_void_p),
                ("error", ctypes.c_char_p), ("error_len", ctypes.c_size_t)]


class RunOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("workspace", ctypes.c_void_p), ("workspace_size", ctypes.c_size_t),
                ("stream", ctypes.c_void_p), ("num_threads", ctypes.c_int32), ("reserved", ctypes.c_int32), ("pf", ctypes.c_void_p),
                ("pf_ctx", ctypes.c_void_p), ("alloc", ctypes.c_void_p), ("free", ctypes.c_void_p), ("alloc_ctx", ctypes.c_void_p),
                ("error", ctypes.c_char_p), ("error_len", ctypes.c_size_t)]


class DeviceArray:
    """A tensor on the emulated device."""

    def __init__(self, driver, array):
        self.driver, self.shape, self.dtype, self.nbytes = driver, array.shape, array.dtype, array.nbytes
        self.address = driver.allocate(array.nbytes)
        driver.write(self.address, array)

    @classmethod
    def view(cls, driver, address, shape, dtype):
        """A part of another one's memory."""
        array = cls.__new__(cls)
        array.driver, array.address, array.shape, array.dtype = driver, address, shape, np.dtype(dtype)
        return array

    def read(self):
        return self.driver.read(self.address, self.shape, self.dtype)

    def free(self):
        self.driver.free(self.address)


class Driver:
    """The driver (the emulated one, unless another is named) as a program that uses CUDA itself sees it."""

    def __init__(self, path=DRIVER):
        self.lib = ctypes.CDLL(path)
        self.call("cuInit", 0)
        self.context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self.call("cuCtxPushCurrent_v2", self.context)

    def close(self):
        self.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        self.call("cuDevicePrimaryCtxRelease_v2", 0)

    def call(self, name, *arguments):
        result = getattr(self.lib, name)(*arguments)
        assert result == 0, f"{name}: {result}"

    def allocate(self, nbytes):
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def free(self, address):
        self.call("cuMemFree_v2", ctypes.c_uint64(address))

    def write(self, address, array):
        array = np.ascontiguousarray(array)
        self.call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), None)
        self.synchronize(None)

    def read(self, address, shape, dtype, stream=None):
        array = np.empty(shape, dtype)
        self.call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes), stream)
        self.synchronize(stream)
        return array

    def stream(self):
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), 0)
        return stream

    def synchronize(self, stream):
        self.call("cuStreamSynchronize", stream)

    def calls(self, name):
        """How often a function of the driver was called in this process."""
        return self.lib.dlcEmulatedCudaCalls(name.encode())

    def live(self):
        """What was made and not given back, as text."""
        text = ctypes.create_string_buffer(256)
        self.lib.dlcEmulatedCudaLive(text, ctypes.c_size_t(256))
        return text.value.decode()


class Instance:
    """A model by dlc_load; run() takes numpy arrays and DeviceArrays, for outputs too."""

    def __init__(self, path, device_id=0):
        self.lib = ctypes.CDLL(os.path.join(BUILD, "lib", "libdlc_runtime.so"))
        self.error = ctypes.create_string_buffer(1024)
        options = CreateOptions(struct_size=ctypes.sizeof(CreateOptions), device_id=device_id,
                                error=ctypes.cast(self.error, ctypes.c_char_p), error_len=1024)
        self.handle = ctypes.c_void_p()
        self.status = self.lib.dlc_load(path.encode(), ctypes.byref(options), ctypes.byref(self.handle))

    def close(self):
        self.lib.dlc_unload(self.handle)

    def text(self):
        return self.error.value.decode()

    def workspace(self, inputs):
        self.lib.dlc_workspace.restype = ctypes.c_size_t
        return self.lib.dlc_workspace(self.handle, self._list([self._tensor(a) for a in inputs]))

    def run(self, inputs, outputs, device_id=0, **options):
        """The status; the text of an error is returned beside it."""
        return self.bind(inputs, outputs, device_id, **options)()

    def bind(self, inputs, outputs, device_id=0, **options):
        """run() with these tensors, as a function that does little besides the call."""
        error = ctypes.create_string_buffer(1024)
        lists = [self._list([self._tensor(a, device_id) for a in arrays]) for arrays in (inputs, outputs)]
        given = RunOptions(struct_size=ctypes.sizeof(RunOptions), error=ctypes.cast(error, ctypes.c_char_p), error_len=1024, **options)
        call, arguments = self.lib.dlc_run, (self.handle, *lists, ctypes.byref(given))

        def run():
            status = call(*arguments)
            return status, error.value.decode() if status else ""

        run.kept = given, inputs, outputs  # as long as it is called
        return run

    @staticmethod
    def _list(tensors):
        return (ctypes.POINTER(DLTensor) * len(tensors))(*[ctypes.pointer(t) for t in tensors])

    @staticmethod
    def _tensor(array, device_id=0):
        on_device = isinstance(array, DeviceArray)
        code = {"f": 2, "i": 0, "u": 1, "b": 6, "V": 4}[array.dtype.kind]  # V: bfloat16
        shape = (ctypes.c_int64 * max(len(array.shape), 1))(*array.shape)
        return DLTensor(data=array.address if on_device else array.ctypes.data, device_type=CUDA if on_device else CPU,
                        device_id=device_id if on_device else 0, ndim=len(array.shape), code=code, bits=8 * array.dtype.itemsize, lanes=1,
                        shape=shape, strides=None, byte_offset=0)


def run_often(artifact):
    """Runs of one instance with other tensors, dims and places; the largest difference from an instance without graphs."""
    driver = Driver()
    model, worst = Instance(artifact), 0.0
    for turn, n in enumerate((9, 9, 4, 9, 1, 1)):
        x = (np.arange(n * 20) % 7 - 3 + turn).astype(np.float32).reshape(n, 20) / 4
        os.environ["DLC_CUDA_GRAPHS"] = "0"
        plain, want = Instance(artifact), np.zeros((n, 3), np.float32)
        assert plain.run([x], [want]) == (0, "")
        plain.close()
        del os.environ["DLC_CUDA_GRAPHS"]
        source, target = DeviceArray(driver, x), DeviceArray(driver, np.zeros((n, 3), np.float32))
        assert model.run([source], [target]) == (0, "")
        worst = max(worst, float(np.abs(target.read() - want).max()))
        source.free()
        target.free()
    model.close()
    assert driver.live() == "1 retained context", driver.live()
    graphs = driver.calls("cuGraphLaunch"), driver.calls("cuGraphExecKernelNodeSetParams"), driver.calls("cuGraphInstantiateWithFlags")
    driver.close()
    return worst, *graphs


def run_two_streams(artifact):
    """Two runs that share the instance's memory, on two streams: the largest difference from runs one after the other."""
    driver = Driver()
    model = Instance(artifact)
    feeds = [(np.arange(9 * 20) % 7 - 3 + i).astype(np.float32).reshape(9, 20) / 4 for i in range(2)]
    inputs = [DeviceArray(driver, x) for x in feeds]
    alone = [np.zeros((9, 3), np.float32) for _ in feeds]
    outputs = [DeviceArray(driver, y) for y in alone]
    streams = [driver.stream() for _ in feeds]
    for x, y in zip(inputs, alone):
        assert model.run([x], [y]) == (0, "")
    for x, y, stream in zip(inputs, outputs, streams):
        assert model.run([x], [y], stream=stream) == (0, "")
    for stream in reversed(streams):
        driver.synchronize(stream)
    return max(float(np.abs(y.read() - want).max()) for y, want in zip(outputs, alone))


if __name__ == "__main__":
    print(*run_often(sys.argv[1]) if sys.argv[2:] == ["often"] else [run_two_streams(sys.argv[1])])
