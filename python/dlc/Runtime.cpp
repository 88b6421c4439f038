// The Python face of the C runtime: load a compiled model, describe it, run it.
//
// Tensors cross as (address, shape): the .py side turns any array into
// contiguous memory with a dtype the model names, so that bfloat16 and
// sub-byte values, which DLPack exporters disagree about, need no special case
// here.
#include "dlc/runtime.h"
#include "ResultPool.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace nb = nanobind;
using dlc_python::ResultMemory;
using dlc_python::ResultPool;

namespace {

// A status with its text, raised as dlc.RuntimeError (class set by the
// package).
struct StatusError : std::runtime_error {
  dlc_status status;
  StatusError(dlc_status status, const std::string &text)
      : std::runtime_error(text), status(status) {}
};

void check(dlc_status status, const char *text) {
  if (status != DLC_OK)
    throw StatusError(status, *text ? text : dlc_status_text(status));
}

// Where the elements of a contiguous object of the buffer protocol are.
uintptr_t addressOf(nb::handle object) {
  Py_buffer view;
  if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE))
    throw nb::python_error();
  auto address = reinterpret_cast<uintptr_t>(view.buf);
  PyBuffer_Release(&view);
  return address;
}

int getResultBuffer(PyObject *self, Py_buffer *view, int flags) {
  auto *memory = nb::inst_ptr<ResultMemory>(nb::handle(self));
  return PyBuffer_FillInfo(view, self, memory->data(), memory->size(),
                           /*readonly=*/0, flags);
}
PyType_Slot resultSlots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void *>(&getResultBuffer)},
    {0, nullptr}};

using Buffer = std::tuple<uintptr_t, std::vector<int64_t>>; // address, shape

class Model {
public:
  Model(const std::string &path, const std::string &weights, int threads) {
    dlc_create_options options = {};
    options.struct_size = sizeof(options);
    options.weights_path = weights.empty() ? nullptr : weights.c_str();
    options.num_threads = threads;
    options.error = error;
    options.error_len = sizeof(error);
    check(dlc_load(path.c_str(), &options, &instance), error);
  }
  ~Model() {
    pool->setRoom(0); // results that are still held go by themselves
    dlc_unload(instance);
  }
  Model(const Model &) = delete;

  nb::dict info() const {
    const dlc_info *i = dlc_get_info(instance);
    nb::dict d;
    d["name"] = i->name;
    d["dlc_version"] = i->dlc_version;
    d["abi_version"] = i->abi_version;
    d["triple"] = i->triple;
    d["cpu"] = i->cpu;
    d["features"] = i->features;
    d["flags"] = i->flags;
    d["precision"] = i->precision;
    d["fp"] = i->fp_mode;
    d["laws"] = i->laws;
    d["kernels"] = i->num_kernels;
    d["weights_bytes"] = i->weights_bytes;
    d["inputs"] = describe(i->inputs, i->num_inputs);
    d["outputs"] = describe(i->outputs, i->num_outputs);
    nb::list symbols;
    for (int64_t s = 0; s < i->num_symbols; ++s) {
      nb::dict symbol;
      symbol["name"] = i->symbols[s].name;
      symbol["min"] = i->symbols[s].min;
      symbol["max"] = i->symbols[s].max;
      symbol["typical"] = i->symbols[s].typical;
      symbols.append(symbol);
    }
    d["symbols"] = symbols;
    nb::list states;
    for (int64_t s = 0; s < i->num_states; ++s) {
      nb::list one = describe(&i->states[s].tensor, 1);
      nb::dict state = nb::cast<nb::dict>(one[0]);
      state["output"] = i->states[s].output;
      state["axis"] = i->states[s].axis;
      state["in_place"] = i->states[s].length < 0;
      states.append(state);
    }
    d["states"] = states;
    return d;
  }

  // Dims of every output for these input shapes; -1 where the data decides.
  std::vector<std::vector<int64_t>>
  outputShapes(const std::vector<Buffer> &inputs) {
    Tensors in(dlc_get_info(instance)->inputs,
               dlc_get_info(instance)->num_inputs, inputs);
    const dlc_info *i = dlc_get_info(instance);
    size_t total = 0;
    for (int64_t o = 0; o < i->num_outputs; ++o)
      total += i->outputs[o].rank;
    std::vector<int64_t> dims(total + 1);
    check(dlc_output_shapes(instance, in.list(), dims.data()), error);
    std::vector<std::vector<int64_t>> shapes;
    auto next = dims.begin();
    for (int64_t o = 0; o < i->num_outputs; ++o) {
      shapes.emplace_back(next, next + i->outputs[o].rank);
      next += i->outputs[o].rank;
    }
    return shapes;
  }

  // Runs into `outputs`; a zero address asks for memory, which comes back as
  // bytes with its shape: [(shape, bytes or None)].
  nb::list run(const std::vector<Buffer> &inputs,
               const std::vector<Buffer> &outputs) {
    const dlc_info *i = dlc_get_info(instance);
    Tensors in(i->inputs, i->num_inputs, inputs),
        out(i->outputs, i->num_outputs, outputs);
    std::vector<DLTensor *> all(in.pointers);
    all.insert(all.end(), out.pointers.begin(), out.pointers.end());
    checkOverlap(all, in.pointers.size());
    dlc_status status;
    {
      nb::gil_scoped_release release;
      status = dlc_run(instance, in.list(), out.mutableList(), nullptr);
    }
    nb::list result;
    for (int64_t o = 0; o < i->num_outputs; ++o) {
      DLTensor &t = out.tensors[o];
      std::vector<int64_t> shape(t.shape, t.shape + t.ndim);
      if (std::get<0>(outputs[o]) != 0 || !t.data) {
        result.append(nb::make_tuple(shape, nb::none()));
        continue;
      }
      size_t bytes = (t.dtype.bits + 7) / 8;
      for (int64_t n : shape)
        bytes *= n;
      if (status == DLC_OK)
        result.append(nb::make_tuple(
            shape, nb::bytes(static_cast<const char *>(t.data), bytes)));
      std::free(t.data);
    }
    check(status, error);
    return result;
  }

  // What `call` asks of numpy: the class ndarray, the formats that the buffer
  // protocol has for the tensors' types, empty where it has none, and the
  // outputs' dtypes.
  void expect(nb::object arrayClass, std::vector<std::string> inputFormats,
              std::vector<std::string> resultFormats, nb::list outputTypes) {
    ndarray = std::move(arrayClass);
    formats = std::move(inputFormats);
    outputFormats = std::move(resultFormats);
    outputDtypes = std::move(outputTypes);
  }

  // Runs on contiguous numpy arrays of the types that the model names, into
  // arrays of the sizes that it tells: a list of them. `out` holds such arrays
  // to write, and None where there is none. None when it is another case, or
  // the model refuses the inputs: nothing has happened then.
  nb::object call(const nb::list &arrays, nb::object out) {
    const dlc_info *info = dlc_get_info(instance);
    size_t numInputs = nb::len(arrays), numOutputs = outputFormats.size();
    if (numInputs != formats.size() || int64_t(numInputs) != info->num_inputs ||
        int64_t(numOutputs) != info->num_outputs)
      return nb::none();
    std::vector<DLTensor> tensors(numInputs + numOutputs);
    std::vector<DLTensor *> pointers;
    for (DLTensor &tensor : tensors)
      pointers.push_back(&tensor);
    Views views(numInputs + numOutputs);
    for (size_t i = 0; i < numInputs; ++i)
      if (!views.add(arrays[i], ndarray, formats[i], info->inputs[i],
                     tensors[i]))
        return nb::none();
    size_t numDims = 1;
    for (size_t o = 0; o < numOutputs; ++o)
      numDims += info->outputs[o].rank;
    std::vector<int64_t> dims(numDims);
    if (dlc_output_shapes(instance, pointers.data(), dims.data()) != DLC_OK)
      return nb::none();
    nb::list results;
    int64_t *shape = dims.data();
    for (size_t o = 0; o < numOutputs; shape += info->outputs[o++].rank) {
      const dlc_tensor_info &output = info->outputs[o];
      for (int64_t k = 0; k < output.rank; ++k)
        if (shape[k] < 0) // the data tell
          return nb::none();
      DLTensor &tensor = tensors[numInputs + o];
      nb::object given = out.is_none() ? nb::none() : nb::object(out[o]);
      if (!given.is_none()) {
        if (!views.add(given, ndarray, outputFormats[o], output, tensor,
                       PyBUF_WRITABLE) ||
            !std::equal(shape, shape + output.rank, tensor.shape))
          return nb::none();
        results.append(given);
        continue;
      }
      uintptr_t address;
      results.append(makeResult(o, shape, output.rank, address));
      fill(tensor, output, address, shape);
    }
    if (!out.is_none())
      checkOverlap(pointers, numInputs);
    setRoom(dims.data());
    dlc_status status;
    {
      nb::gil_scoped_release release;
      status = dlc_run(instance, pointers.data(), pointers.data() + numInputs,
                       nullptr);
    }
    check(status, error);
    return results;
  }

  // An array for an output of this shape, and its address.
  nb::tuple output(size_t number, const std::vector<int64_t> &shape) {
    uintptr_t address;
    nb::object array = makeResult(number, shape.data(), shape.size(), address);
    return nb::make_tuple(array, address);
  }

  // Bytes of results that nobody holds.
  size_t waitingBytes() { return pool->getWaitingBytes(); }

  int64_t stateLength() { return dlc_state_length(instance); }
  size_t stateBytes() { return dlc_state_bytes(instance); }
  void stateTruncate(int64_t length) {
    check(dlc_state_truncate(instance, length), error);
  }
  void stateReserve(int64_t rows) {
    check(dlc_state_reserve(instance, rows), error);
  }

private:
  static nb::list describe(const dlc_tensor_info *tensors, int64_t n) {
    nb::list list;
    for (int64_t i = 0; i < n; ++i) {
      nb::dict d;
      d["name"] = tensors[i].name;
      d["type_code"] = tensors[i].type_code;
      d["type_bits"] = tensors[i].type_bits;
      nb::list dims;
      for (int64_t k = 0; k < tensors[i].rank; ++k) {
        const dlc_dim &dim = tensors[i].dims[k];
        if (dim.kind == DLC_DIM_CONST)
          dims.append(dim.value);
        else
          dims.append(dim.kind == DLC_DIM_DATA ? nb::object(nb::none())
                                               : nb::object(nb::str(dim.text)));
      }
      d["shape"] = dims;
      list.append(d);
    }
    return list;
  }

  // DLTensors over the callers' memory, with the types the model expects.
  struct Tensors {
    std::vector<DLTensor> tensors;
    std::vector<DLTensor *> pointers;
    std::vector<std::vector<int64_t>> shapes;

    Tensors(const dlc_tensor_info *infos, int64_t n,
            const std::vector<Buffer> &buffers)
        : tensors(buffers.size()) {
      if (static_cast<int64_t>(buffers.size()) != n)
        throw StatusError(DLC_INVALID_ARGUMENT,
                          "expected " + std::to_string(n) + " tensors, got " +
                              std::to_string(buffers.size()));
      for (const Buffer &b : buffers)
        shapes.push_back(std::get<1>(b));
      for (int64_t i = 0; i < n; ++i) {
        DLTensor &t = tensors[i];
        t.data = reinterpret_cast<void *>(std::get<0>(buffers[i]));
        t.device = {kDLCPU, 0};
        t.ndim = static_cast<int32_t>(shapes[i].size());
        t.dtype = {static_cast<uint8_t>(infos[i].type_code),
                   static_cast<uint8_t>(infos[i].type_bits), 1};
        t.shape = shapes[i].data();
        t.strides = nullptr;
        t.byte_offset = 0;
        pointers.push_back(&t);
      }
    }
    const DLTensor *const *list() const { return pointers.data(); }
    DLTensor *const *mutableList() { return pointers.data(); }
  };

  static void fill(DLTensor &tensor, const dlc_tensor_info &info,
                   uintptr_t address, int64_t *shape) {
    tensor.data = reinterpret_cast<void *>(address);
    tensor.device = {kDLCPU, 0};
    tensor.ndim = int32_t(info.rank);
    tensor.dtype = {uint8_t(info.type_code), uint8_t(info.type_bits), 1};
    tensor.shape = shape;
    tensor.strides = nullptr;
    tensor.byte_offset = 0;
  }

  // The callers' arrays, held until the run is over.
  struct Views {
    explicit Views(size_t most) { views.reserve(most); }
    Views(const Views &) = delete;
    ~Views() {
      for (Py_buffer &view : views)
        PyBuffer_Release(&view);
    }
    // False for what is no contiguous array of this type and rank.
    bool add(nb::handle object, nb::handle ndarray, const std::string &format,
             const dlc_tensor_info &info, DLTensor &tensor, int flags = 0) {
      if (!object.type().is(ndarray) || format.empty())
        return false;
      Py_buffer view;
      if (PyObject_GetBuffer(object.ptr(), &view,
                             PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) != 0) {
        PyErr_Clear();
        return false;
      }
      views.push_back(view);
      if (view.ndim != info.rank || !view.format || format != view.format)
        return false;
      static_assert(sizeof(Py_ssize_t) == sizeof(int64_t));
      fill(tensor, info, reinterpret_cast<uintptr_t>(view.buf),
           reinterpret_cast<int64_t *>(view.shape));
      return true;
    }
    std::vector<Py_buffer> views;
  };

  static size_t bytesOf(const DLTensor &tensor) {
    size_t bytes = (tensor.dtype.bits + 7) / 8;
    for (int32_t k = 0; k < tensor.ndim; ++k)
      bytes *= tensor.shape[k];
    return bytes;
  }

  // An array in memory of the pool.
  nb::object makeResult(size_t number, const int64_t *shape, int64_t rank,
                        uintptr_t &address) {
    size_t bytes = (dlc_get_info(instance)->outputs[number].type_bits + 7) / 8;
    nb::object dims = nb::steal(PyTuple_New(rank));
    for (int64_t k = 0; k < rank; ++k) {
      bytes *= shape[k];
      PyTuple_SET_ITEM(dims.ptr(), k, PyLong_FromLongLong(shape[k]));
    }
    auto *memory = new ResultMemory(pool, bytes);
    address = reinterpret_cast<uintptr_t>(memory->data());
    return ndarray(dims, outputDtypes[number],
                   nb::cast(memory, nb::rv_policy::take_ownership));
  }

  // Results of two runs wait at most: of the one before, which its caller may
  // have let go while this one ran, and of this one.
  void setRoom(const int64_t *shape) {
    const dlc_info *info = dlc_get_info(instance);
    size_t total = 0;
    for (int64_t o = 0; o < info->num_outputs; ++o) {
      size_t bytes = (info->outputs[o].type_bits + 7) / 8;
      for (int64_t k = 0; k < info->outputs[o].rank; ++k)
        bytes *= std::max<int64_t>(*shape++, 0);
      total += bytes / 64 * 64 + 64; // as blocks are rounded
    }
    pool->setRoom(2 * total);
  }

  // Code reads its operands as if nobody wrote them meanwhile.
  void checkOverlap(const std::vector<DLTensor *> &tensors, size_t numInputs) {
    const dlc_info *info = dlc_get_info(instance);
    for (size_t o = numInputs; o < tensors.size(); ++o)
      for (size_t i = 0; i < o; ++i) {
        auto begin = [](const DLTensor *t) {
          return reinterpret_cast<uintptr_t>(t->data);
        };
        const DLTensor *x = tensors[i], *y = tensors[o];
        size_t xBytes = bytesOf(*x), yBytes = bytesOf(*y);
        if (!xBytes || !yBytes || begin(x) + xBytes <= begin(y) ||
            begin(y) + yBytes <= begin(x))
          continue;
        bool isInput = i < numInputs;
        throw StatusError(
            DLC_INVALID_ARGUMENT,
            std::string("out: the array of output '") +
                info->outputs[o - numInputs].name + "' overlaps that of " +
                (isInput ? "input '" : "output '") +
                (isInput ? info->inputs[i] : info->outputs[i - numInputs])
                    .name +
                "'");
      }
  }

  dlc_instance *instance = nullptr;
  char error[1024] = {};
  nb::object ndarray;
  std::vector<std::string> formats, outputFormats;
  nb::list outputDtypes;
  std::shared_ptr<ResultPool> pool = std::make_shared<ResultPool>();
};

} // namespace

NB_MODULE(_runtime, m) {
  m.doc() = "the C runtime of compiled models";
  static nb::exception<StatusError> statusError(m, "StatusError",
                                                PyExc_RuntimeError);
  m.def("address", &addressOf);
  nb::class_<ResultMemory>(m, "ResultMemory", nb::type_slots(resultSlots));
  nb::class_<Model>(m, "Model")
      .def(nb::init<const std::string &, const std::string &, int>(),
           nb::arg("path"), nb::arg("weights") = "", nb::arg("threads") = 0)
      .def("info", &Model::info)
      .def("output_shapes", &Model::outputShapes)
      .def("expect", &Model::expect)
      .def("call", &Model::call, nb::arg("arrays"), nb::arg("out").none())
      .def("output", &Model::output)
      .def("waiting_bytes", &Model::waitingBytes)
      .def("run", &Model::run)
      .def("state_length", &Model::stateLength)
      .def("state_bytes", &Model::stateBytes)
      .def("state_truncate", &Model::stateTruncate)
      .def("state_reserve", &Model::stateReserve);
}
