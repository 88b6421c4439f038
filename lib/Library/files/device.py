"""Memory and streams of a CUDA device, for programs that have no other library for them: the driver by ctypes.

    from %NAME%.device import Device
    device = Device()                        # the device's primary context, current on this thread
    x = device.put(np.ones((3, 4), np.float32))
    x.numpy()                                # waits for the default stream

Arrays have `__cuda_array_interface__`, so that others take them without a copy. DLC_CUDA_DRIVER names another driver than
libcuda.so.1."""
import ctypes
import os

import numpy as np


class DeviceError(RuntimeError):
    """The driver failed."""


class DeviceArray:
    """A compact array in the device's memory; `address` is its first byte. Memory goes back when the array does."""

    def __init__(self, device, shape, dtype, address=None):
        self.device, self.shape, self.dtype = device, tuple(shape), np.dtype(dtype)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.owned = address is None
        self.address = device.allocate(max(self.nbytes, 1)) if self.owned else address

    def __del__(self):
        if getattr(self, "owned", False) and self.device.context:
            self.device.free(self.address)

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def __cuda_array_interface__(self):
        return {"version": 3, "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "strides": None}

    def numpy(self, stream=None):
        """A copy on the host, when the work of the stream is done."""
        array = np.empty(self.shape, self.dtype)
        self.device.read(array, self.address, stream)
        return array


class Device:
    """One device; its primary context is current on the thread that makes this."""

    def __init__(self, ordinal=0):
        self.context = None
        try:
            self.lib = ctypes.CDLL(os.environ.get("DLC_CUDA_DRIVER") or "libcuda.so.1")
        except OSError as error:
            raise DeviceError(f"the CUDA driver cannot be opened: {error}") from None
        self._call("cuInit", 0)
        self.handle, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(self.handle), ordinal)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.handle)
        self._call("cuCtxPushCurrent_v2", context)
        self.context = context

    def close(self):
        """Gives the context back. Arrays are no longer valid."""
        if self.context:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
            self._call("cuDevicePrimaryCtxRelease_v2", self.handle)
            self.context = None

    def _call(self, name, *arguments):
        result = getattr(self.lib, name)(*arguments)
        if result:
            text = ctypes.c_char_p()
            self.lib.cuGetErrorName(result, ctypes.byref(text))
            raise DeviceError(f"{name}: {text.value.decode() if text.value else result}")

    def allocate(self, nbytes):
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def free(self, address):
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def write(self, address, array, stream=None):
        array = np.ascontiguousarray(array)
        if array.nbytes:
            self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), ctypes.c_void_p(array.ctypes.data),
                       ctypes.c_size_t(array.nbytes), stream)
            self.synchronize(stream)

    def read(self, array, address, stream=None):
        if array.nbytes:
            self._call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address),
                       ctypes.c_size_t(array.nbytes), stream)
        self.synchronize(stream)

    def put(self, array):
        """A copy of a numpy array in the device's memory."""
        result = DeviceArray(self, array.shape, array.dtype)
        self.write(result.address, array)
        return result

    def empty(self, shape, dtype):
        return DeviceArray(self, shape, dtype)

    def stream(self):
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        return stream

    def destroy(self, stream):
        self._call("cuStreamDestroy_v2", stream)

    def synchronize(self, stream=None):
        self._call("cuStreamSynchronize", stream)
