// The tables of dlc/library.h as LLVM constants, and the functions over them.
// Each operation is a module of its own, so that a program that links the
// static library gets the operations it calls and no others.
#include "dlc/Library/Emit.h"
#include "dlc/library.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"

#include <array>
#include <cstdio>

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::Constant;
using llvm::Function;
using llvm::FunctionType;
using llvm::GlobalValue;
using llvm::GlobalVariable;
using llvm::StringRef;
using llvm::Twine;
using llvm::Type;

static_assert(sizeof(dlc_library_dim) == 32 &&
                  sizeof(dlc_library_extent) == 32 &&
                  sizeof(dlc_library_tensor) == 48 &&
                  sizeof(dlc_library_cpu) == 24 &&
                  sizeof(dlc_library_instance) == 64 &&
                  sizeof(dlc_library_segments) == 32 &&
                  sizeof(dlc_library_packing) == 64 &&
                  sizeof(dlc_library_operation) == 96,
              "the tables are written field by field");

namespace {
class Tables {
public:
  explicit Tables(llvm::Module &module)
      : module(module), context(module.getContext()),
        pointer(llvm::PointerType::get(context, 0)) {}

  Constant *integer(int64_t value) {
    return llvm::ConstantInt::getSigned(Type::getInt64Ty(context), value);
  }
  Constant *null() { return llvm::ConstantPointerNull::get(pointer); }
  Constant *string(StringRef text) {
    Constant *&global = strings[text];
    if (!global)
      global = define(llvm::ConstantDataArray::getString(context, text));
    return global;
  }
  Constant *record(ArrayRef<Constant *> fields) {
    return llvm::ConstantStruct::getAnon(context, fields);
  }
  Constant *array(ArrayRef<Constant *> records) {
    if (records.empty())
      return null();
    return define(llvm::ConstantArray::get(
        llvm::ArrayType::get(records.front()->getType(), records.size()),
        records));
  }
  template <typename Range>
  Constant *integers(const Range &values) {
    llvm::SmallVector<Constant *> constants;
    for (int64_t value : values)
      constants.push_back(integer(value));
    return array(constants);
  }
  GlobalVariable *define(Constant *value) {
    auto *global = new GlobalVariable(module, value->getType(), true,
                                      GlobalValue::PrivateLinkage, value);
    global->setUnnamedAddr(GlobalValue::UnnamedAddr::Global);
    return global;
  }
  /// A hidden symbol that other objects of the library see.
  GlobalVariable *share(const Twine &name, Constant *value, bool isConstant) {
    auto *global =
        new GlobalVariable(module, value->getType(), isConstant,
                           GlobalValue::ExternalLinkage, value, name);
    global->setVisibility(GlobalValue::HiddenVisibility);
    global->setAlignment(llvm::Align(8));
    return global;
  }
  /// One of another object.
  GlobalVariable *refer(const Twine &name) {
    if (GlobalVariable *known = module.getNamedGlobal(name.str()))
      return known;
    auto *global =
        new GlobalVariable(module, Type::getInt64Ty(context), false,
                           GlobalValue::ExternalLinkage, nullptr, name);
    global->setVisibility(GlobalValue::HiddenVisibility);
    return global;
  }

  llvm::FunctionCallee runtime(StringRef name, Type *result,
                               ArrayRef<Type *> arguments) {
    llvm::FunctionCallee callee = module.getOrInsertFunction(
        name, FunctionType::get(result, arguments, false));
    llvm::cast<Function>(callee.getCallee())
        ->setVisibility(GlobalValue::HiddenVisibility);
    return callee;
  }
  Function *function(const Twine &name, Type *result,
                     ArrayRef<Type *> arguments) {
    auto *function =
        Function::Create(FunctionType::get(result, arguments, false),
                         GlobalValue::ExternalLinkage, name, module);
    function->addFnAttr(llvm::Attribute::NoUnwind);
    return function;
  }
  /// `name` is another name of the runtime's `callee`.
  void forward(const Twine &name, StringRef callee, Type *result,
               ArrayRef<Type *> arguments) {
    Function *own = function(name, result, arguments);
    llvm::IRBuilder<> b(llvm::BasicBlock::Create(context, "", own));
    llvm::SmallVector<llvm::Value *> values;
    for (llvm::Argument &argument : own->args())
      values.push_back(&argument);
    b.CreateRet(b.CreateCall(runtime(callee, result, arguments), values));
  }

  llvm::Module &module;
  llvm::LLVMContext &context;
  llvm::PointerType *pointer;

private:
  llvm::StringMap<Constant *> strings;
};
} // namespace

void dlc::library::emitBase(llvm::Module &module, const Build &build) {
  Tables t(module);
  const std::string &name = build.library.name;
  llvm::SmallVector<Constant *> cpus;
  for (const Cpu &cpu : build.cpus)
    cpus.push_back(
        t.record({t.string(cpu.name), t.string(cpu.features), t.integer(0)}));
  t.share(name + "_cpus",
          llvm::ConstantArray::get(
              llvm::ArrayType::get(cpus.front()->getType(), cpus.size()), cpus),
          /*isConstant=*/false);
  Type *i32 = Type::getInt32Ty(t.context), *i64 = Type::getInt64Ty(t.context);
  if (build.onDevice) {
    // The last pointer is the stream.
    t.forward(name + "_run", "dlc_library_run_cuda", i32,
              {t.pointer, t.pointer, t.pointer, t.pointer});
    t.forward(name + "_run_instance", "dlc_library_run_instance_cuda", i32,
              {t.pointer, i64, t.pointer, t.pointer, t.pointer});
    t.forward(name + "_pack", "dlc_library_pack_cuda", i32,
              {t.pointer, i64, t.pointer, t.pointer, t.pointer, t.pointer});
    t.forward(name + "_select", "dlc_library_select_cuda", i64,
              {t.pointer, t.pointer});
    t.forward(name + "_unload", "dlc_library_unload_cuda", i32, {});
  } else {
    t.forward(name + "_run", "dlc_library_run", i32,
              {t.pointer, t.pointer, t.pointer});
    t.forward(name + "_run_instance", "dlc_library_run_instance", i32,
              {t.pointer, i64, t.pointer, t.pointer});
    t.forward(name + "_pack", "dlc_library_pack", i32,
              {t.pointer, i64, t.pointer, t.pointer, t.pointer});
    t.forward(name + "_select", "dlc_library_select", i64,
              {t.pointer, t.pointer});
    t.forward(name + "_set_num_threads", "dlc_library_set_num_threads", i32,
              {i32});
    t.forward(name + "_set_parallel_for", "dlc_library_set_parallel_for", i32,
              {t.pointer, t.pointer});
  }
  t.forward(name + "_packed_size", "dlc_library_packed_size", i64,
            {t.pointer, i64, t.pointer});
  t.forward(name + "_last_error", "dlc_library_last_error", t.pointer, {});
}

static Constant *makeTensors(Tables &t, const Operation &op) {
  llvm::SmallVector<Constant *> tensors;
  for (const Tensor &tensor : op.tensors) {
    llvm::SmallVector<Constant *> extents;
    for (const Extent &e : tensor.extents)
      extents.push_back(t.record({t.integer(e.dim), t.integer(e.offset),
                                  t.integer(e.divisor), t.integer(e.factor)}));
    tensors.push_back(t.record(
        {t.string(tensor.name), t.integer(tensor.type->code),
         t.integer(tensor.type->bits), t.integer(tensor.isOutput),
         t.integer(static_cast<int64_t>(extents.size())), t.array(extents)}));
  }
  return t.array(tensors);
}

bool Packing::parse(const std::string &layout) {
  long long p, b, e, batch, m, k, ms, ks, depth = 0;
  int end = 0, longer = 0;
  int found =
      std::sscanf(layout.c_str(),
                  "panel%lld block%lld bytes%lld [%lldx%lldx%lld] step "
                  "%lld,%lld%n depth%lld%n",
                  &p, &b, &e, &batch, &m, &k, &ms, &ks, &end, &depth, &longer);
  if (found < 8 || batch != 1 || p < 1 || b < 1)
    return false;
  if (found == 8)
    depth = (k + b - 1) / b * b;
  if (static_cast<size_t>(found == 8 ? end : longer) != layout.size() ||
      depth < k || depth % b)
    return false;
  panel = p, block = b, elementBytes = e, majors = m, inner = k;
  majorStep = ms, innerStep = ks;
  return bytes == (majors + panel - 1) / panel * panel * depth * elementBytes;
}

static Constant *makePacking(Tables &t, const CompiledInstance &instance) {
  if (!instance.packing)
    return t.null();
  const Packing &p = *instance.packing;
  return t.integers(std::array{p.panel, p.block, p.elementBytes, p.majors,
                               p.inner, p.majorStep, p.innerStep, p.bytes});
}

static Constant *makeInstances(Tables &t, const Build &build,
                               const Operation &op,
                               ArrayRef<CompiledInstance> compiled) {
  llvm::SmallVector<Constant *> instances;
  GlobalVariable *cpus = t.refer(build.library.name + "_cpus");
  for (const CompiledInstance &instance : compiled) {
    const Instance &spec = op.instances[instance.instance];
    std::vector<int64_t> min, max;
    for (const Range &range : spec.ranges) {
      min.push_back(range.min);
      max.push_back(range.max);
    }
    Constant *cpu = llvm::ConstantExpr::getInBoundsGetElementPtr(
        Type::getInt8Ty(t.context), cpus,
        ArrayRef<Constant *>{t.integer(
            static_cast<int64_t>(instance.cpu * sizeof(dlc_library_cpu)))});
    instances.push_back(
        t.record({t.string(spec.name), cpu, t.integers(min), t.integers(max),
                  t.refer(instance.modelTable), t.integers(instance.symbols),
                  t.integer(instance.bytes), makePacking(t, instance)}));
  }
  return t.array(instances);
}

static Constant *makeSegments(Tables &t, const Operation &op) {
  if (!op.segments)
    return t.null();
  const Segments &s = *op.segments;
  return t.define(t.record({t.integer(s.rows), t.integer(s.groups),
                            t.integer(s.offsets), t.integers(s.kinds)}));
}

// i64 <name>_size(sizes of the packed tensor), i32 <name>_pack(known sizes,
// matrix, packed), with a stream behind where code runs on a device.
static void emitPacking(Tables &t, const std::string &name, const Operation &op,
                        GlobalVariable *table, bool onDevice) {
  Type *i64 = Type::getInt64Ty(t.context), *i32 = Type::getInt32Ty(t.context);
  llvm::SmallVector<Type *> known(
      llvm::count_if(llvm::seq<size_t>(0, op.dims.size()),
                     [&](size_t dim) { return op.isPackedBy(dim); }),
      i64);
  auto define = [&](const char *suffix, const char *callee, Type *result,
                    unsigned numPointers) {
    llvm::SmallVector<Type *> parameters(known);
    parameters.append(numPointers, t.pointer);
    llvm::SmallVector<Type *> passed(numPointers + 3, t.pointer);
    passed[1] = i64; // the instance: the best
    Function *function = t.function(name + suffix, result, parameters);
    llvm::IRBuilder<> b(llvm::BasicBlock::Create(t.context, "", function));
    auto *sizes = b.CreateAlloca(llvm::ArrayType::get(i64, op.dims.size()));
    unsigned next = 0;
    for (auto [i, dim] : llvm::enumerate(op.dims)) {
      llvm::Value *size = t.integer(-1);
      if (op.isPackedBy(i))
        size = function->getArg(next++);
      b.CreateStore(size, b.CreateConstInBoundsGEP1_64(i64, sizes, i));
    }
    llvm::SmallVector<llvm::Value *> values{table, t.integer(-1), sizes};
    for (unsigned i = 0; i < numPointers; ++i)
      values.push_back(function->getArg(next + i));
    b.CreateRet(b.CreateCall(t.runtime(callee, result, passed), values));
  };
  define("_size", "dlc_library_packed_size", i64, 0);
  if (onDevice)
    define("_pack", "dlc_library_pack_cuda", i32, 3);
  else
    define("_pack", "dlc_library_pack", i32, 2);
}

// Where the runtime notes what it loaded onto devices.
static Constant *makeLoaded(Tables &t, const Build &build, size_t count) {
  if (!build.onDevice || !count)
    return t.null();
  auto *type = llvm::ArrayType::get(t.pointer, count);
  return new GlobalVariable(t.module, type, /*isConstant=*/false,
                            GlobalValue::PrivateLinkage,
                            Constant::getNullValue(type), "loaded");
}

void dlc::library::emitOperation(llvm::Module &module, const Build &build,
                                 unsigned index) {
  Tables t(module);
  const Operation &op = build.library.operations[index];
  llvm::SmallVector<Constant *> dims;
  for (const Dim &dim : op.dims)
    dims.push_back(
        t.record({t.string(dim.name), t.integer(dim.range.min),
                  t.integer(dim.range.max), t.integer(dim.range.typical)}));
  std::string name = build.library.name + "_" + op.name;
  Constant *value = t.record(
      {t.string(op.name), t.string(op.kind), t.string(op.text),
       t.integer(static_cast<int64_t>(dims.size())), t.array(dims),
       t.integer(static_cast<int64_t>(op.tensors.size())), makeTensors(t, op),
       t.integer(static_cast<int64_t>(build.instances[index].size())),
       makeInstances(t, build, op, build.instances[index]), makeSegments(t, op),
       t.integer(op.packed ? int64_t(op.packed->tensor) : -1),
       makeLoaded(t, build, build.instances[index].size())});
  GlobalVariable *table =
      t.share(name + "_operation", value, /*isConstant=*/true);

  if (op.packed)
    emitPacking(t, name, op, table, build.onDevice);
  Type *i64 = Type::getInt64Ty(t.context);
  llvm::SmallVector<Type *> arguments(op.dims.size(), i64);
  arguments.append(op.tensors.size() + build.onDevice, t.pointer);
  Function *function = t.function(name, Type::getInt32Ty(t.context), arguments);
  llvm::IRBuilder<> b(llvm::BasicBlock::Create(t.context, "", function));
  auto pack = [&](Type *type, size_t first, size_t count) {
    auto *memory =
        b.CreateAlloca(llvm::ArrayType::get(type, std::max<size_t>(count, 1)));
    for (size_t i = 0; i < count; ++i)
      b.CreateStore(function->getArg(first + i),
                    b.CreateConstInBoundsGEP1_64(type, memory, i));
    return memory;
  };
  llvm::Value *sizes = pack(i64, 0, op.dims.size());
  llvm::Value *tensors = pack(t.pointer, op.dims.size(), op.tensors.size());
  llvm::SmallVector<llvm::Value *> passed{table, sizes, tensors};
  if (build.onDevice)
    passed.push_back(function->getArg(arguments.size() - 1));
  llvm::SmallVector<Type *> types(passed.size(), t.pointer);
  b.CreateRet(b.CreateCall(
      t.runtime(build.onDevice ? "dlc_library_run_cuda" : "dlc_library_run",
                Type::getInt32Ty(t.context), types),
      passed));
}

void dlc::library::emitIndex(llvm::Module &module, const Build &build) {
  Tables t(module);
  const std::string &name = build.library.name;
  llvm::SmallVector<Constant *> operations;
  for (const Operation &op : build.library.operations)
    operations.push_back(t.refer(name + "_" + op.name + "_operation"));
  Constant *list = t.array(operations);
  Type *i64 = Type::getInt64Ty(t.context);
  Function *count = t.function(name + "_num_operations", i64, {});
  llvm::IRBuilder<> b(llvm::BasicBlock::Create(t.context, "", count));
  Constant *number = t.integer(static_cast<int64_t>(operations.size()));
  b.CreateRet(number);
  Function *get = t.function(name + "_operation", t.pointer, {i64});
  auto *entry = llvm::BasicBlock::Create(t.context, "", get);
  auto *inside = llvm::BasicBlock::Create(t.context, "", get);
  auto *outside = llvm::BasicBlock::Create(t.context, "", get);
  b.SetInsertPoint(entry);
  b.CreateCondBr(b.CreateICmpULT(get->getArg(0), number), inside, outside);
  b.SetInsertPoint(inside);
  b.CreateRet(b.CreateLoad(
      t.pointer, b.CreateInBoundsGEP(t.pointer, list, {get->getArg(0)})));
  b.SetInsertPoint(outside);
  b.CreateRet(t.null());
}

std::vector<std::string> dlc::library::getFunctions(const Build &build) {
  std::vector<std::string> names;
  for (const char *name :
       {"run", "run_instance", "packed_size", "pack", "select", "last_error",
        "num_operations", "operation"})
    names.push_back(build.library.name + "_" + name);
  if (build.onDevice) {
    names.push_back(build.library.name + "_unload");
  } else {
    names.push_back(build.library.name + "_set_num_threads");
    names.push_back(build.library.name + "_set_parallel_for");
  }
  for (const Operation &op : build.library.operations) {
    std::string name = build.library.name + "_" + op.name;
    names.push_back(name);
    if (op.packed) {
      names.push_back(name + "_size");
      names.push_back(name + "_pack");
    }
  }
  return names;
}
