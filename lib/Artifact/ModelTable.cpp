// Builds dlc_info, dlc_model and the entry points as LLVM constants and
// functions. Field order follows the offsets documented in dlc/runtime.h; the
// asserts below catch a struct that grew without this file.
#include "dlc/Artifact/ModelTable.h"

#include "dlc/external.h"

#include "llvm/IR/Constants.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/TargetParser/Triple.h"

#include <cassert>

using namespace llvm;
using namespace dlc;

static_assert(sizeof(dlc_info) == 176 && sizeof(dlc_state_info) == 88 &&
                  sizeof(dlc_model) == 104 && sizeof(dlc_tensor_info) == 40 &&
                  sizeof(dlc_dim) == 24 && sizeof(dlc_symbol_info) == 32 &&
                  sizeof(dlc_device_image) == 72 &&
                  sizeof(dlc_device_module) == 40 &&
                  sizeof(dlc_device_function) == 48 &&
                  sizeof(dlc_external_image) == 24,
              "emitModelTable writes these structs field by field");

namespace {

/// Constants of one module, all private but the table.
class TableBuilder {
public:
  explicit TableBuilder(Module &module)
      : module(module), context(module.getContext()),
        pointer(PointerType::get(context, 0)) {}

  Constant *integer(int64_t value) {
    return ConstantInt::getSigned(Type::getInt64Ty(context), value);
  }
  Constant *null() { return ConstantPointerNull::get(pointer); }
  Constant *orNull(Constant *constant) { return constant ? constant : null(); }

  Constant *string(StringRef text) {
    Constant *&global = strings[text];
    if (!global)
      global = define(ConstantDataArray::getString(context, text), "dlc.str");
    return global;
  }

  Constant *record(ArrayRef<Constant *> fields) {
    return ConstantStruct::getAnon(context, fields);
  }

  /// A private array of equal records, or null when there are none.
  Constant *array(ArrayRef<Constant *> records, StringRef name) {
    if (records.empty())
      return null();
    return define(ConstantArray::get(ArrayType::get(records.front()->getType(),
                                                    records.size()),
                                     records),
                  name);
  }

  GlobalVariable *define(Constant *value, StringRef name) {
    auto *global =
        new GlobalVariable(module, value->getType(), /*isConstant=*/true,
                           GlobalValue::PrivateLinkage, value, name);
    global->setUnnamedAddr(GlobalValue::UnnamedAddr::Global);
    return global;
  }

  SmallVector<Constant *> tensor(const TensorInfo &info);
  Constant *tensors(const std::vector<TensorInfo> &list, StringRef name);
  Constant *states(const std::vector<StateInfo> &list);
  Constant *symbols(const std::vector<SymbolInfo> &list);
  Constant *info(const ModelInfo &info);
  Constant *image(const DeviceImage &image);
  Constant *external(const ExternalImage &image);
  /// A hidden global that another object defines.
  GlobalVariable *declare(StringRef name, unsigned words, bool isConstant);

  Module &module;
  LLVMContext &context;
  PointerType *pointer;

private:
  StringMap<Constant *> strings;
};

} // namespace

SmallVector<Constant *> TableBuilder::tensor(const TensorInfo &info) {
  SmallVector<Constant *> dims;
  for (const DimInfo &dim : info.dims) {
    std::string text = dim.text;
    if (text.empty() && dim.kind == DLC_DIM_CONST)
      text = std::to_string(dim.value);
    dims.push_back(
        record({integer(dim.kind), integer(dim.value), string(text)}));
  }
  return {string(info.name), integer(info.typeCode), integer(info.typeBits),
          integer(static_cast<int64_t>(dims.size())), array(dims, "dlc.dims")};
}

Constant *TableBuilder::tensors(const std::vector<TensorInfo> &list,
                                StringRef name) {
  SmallVector<Constant *> records;
  for (const TensorInfo &info : list)
    records.push_back(record(tensor(info)));
  return array(records, name);
}

Constant *TableBuilder::states(const std::vector<StateInfo> &list) {
  SmallVector<Constant *> records;
  for (const StateInfo &state : list) {
    SmallVector<Constant *> fields = tensor(state.tensor);
    fields.append({string(state.output), integer(state.axis),
                   integer(state.length), integer(state.capacity),
                   integer(state.rows.kind), integer(state.rows.value)});
    records.push_back(record(fields));
  }
  return array(records, "dlc.states");
}

Constant *TableBuilder::symbols(const std::vector<SymbolInfo> &list) {
  SmallVector<Constant *> records;
  for (const SymbolInfo &symbol : list)
    records.push_back(record({string(symbol.name), integer(symbol.min),
                              integer(symbol.max), integer(symbol.typical)}));
  return array(records, "dlc.symbols");
}

Constant *TableBuilder::info(const ModelInfo &info) {
  auto count = [&](const auto &list) {
    return integer(static_cast<int64_t>(list.size()));
  };
  Constant *value = record({
      integer(sizeof(dlc_info)),
      integer(DLC_ABI_VERSION),
      string(info.name),
      string(info.dlcVersion),
      string(info.triple),
      string(info.cpu),
      string(info.features),
      string(info.flags),
      string(info.precision),
      string(info.fpMode),
      string(info.laws),
      integer(info.deviceType),
      integer(info.numKernels),
      integer(info.weights.size),
      count(info.inputs),
      count(info.outputs),
      count(info.symbols),
      tensors(info.inputs, "dlc.inputs"),
      tensors(info.outputs, "dlc.outputs"),
      symbols(info.symbols),
      count(info.states),
      states(info.states),
  });
  return define(value, "dlc.info");
}

Constant *TableBuilder::image(const DeviceImage &image) {
  SmallVector<Constant *> modules, functions, sites;
  for (const DeviceImage::Module &code : image.modules) {
    GlobalVariable *bytes = define(
        ConstantDataArray::getString(context, code.bytes, /*AddNull=*/true),
        "dlc.device_code");
    bytes->setAlignment(Align(16));
    modules.push_back(
        record({integer(code.kind), integer(code.arch), integer(code.exact),
                bytes, integer(static_cast<int64_t>(code.bytes.size()))}));
  }
  for (const DeviceImage::Function &function : image.functions) {
    Constant *call = null();
    if (function.call) {
      std::array<int64_t, sizeof(dlc_device_call) / sizeof(int64_t)> words;
      std::memcpy(words.data(), &*function.call, sizeof words);
      call = define(ConstantDataArray::get(context, ArrayRef(words)),
                    "dlc.device_call");
    }
    functions.push_back(
        record({string(function.symbol), string(function.kernel),
                integer(function.blockThreads), integer(function.numParams),
                integer(function.sharedBytes), call}));
  }
  for (StringRef site : image.sites)
    sites.push_back(string(site));
  // Defined in the runtime that the artifact is linked with.
  GlobalVariable *backend = declare(image.backend, 4, /*isConstant=*/true);
  auto count = [&](const auto &list) {
    return integer(static_cast<int64_t>(list.size()));
  };
  SmallVector<Constant *> fields{
      backend,          array(modules, "dlc.device_modules"),
      count(modules),   array(functions, "dlc.device_functions"),
      count(functions), array(sites, "dlc.device_sites"),
      count(sites)};
  for (const std::string &library : image.libraries)
    fields.push_back(library.empty()
                         ? null()
                         : declare(library, sizeof(dlc_device_library) / 8,
                                   /*isConstant=*/true));
  return define(record(fields), "dlc.device_image");
}

GlobalVariable *TableBuilder::declare(StringRef name, unsigned words,
                                      bool isConstant) {
  if (GlobalVariable *known = module.getNamedGlobal(name))
    return known;
  auto *global = new GlobalVariable(
      module, ArrayType::get(Type::getInt64Ty(context), words), isConstant,
      GlobalValue::ExternalLinkage, nullptr, name);
  global->setVisibility(GlobalValue::HiddenVisibility);
  return global;
}

Constant *TableBuilder::external(const ExternalImage &image) {
  SmallVector<Constant *> sites;
  for (StringRef site : image.sites)
    sites.push_back(
        declare(site, sizeof(dlc_external_site) / 8, /*isConstant=*/false));
  GlobalVariable *backend = declare(
      image.backend, sizeof(dlc_external_backend) / 8, /*isConstant=*/true);
  return define(record({backend, array(sites, "dlc.external_sites"),
                        integer(static_cast<int64_t>(sites.size()))}),
                "dlc.external_image");
}

GlobalVariable *dlc::emitModelTable(Module &module, const ModelInfo &info,
                                    const ModelFunctions &functions,
                                    const DeviceImage *image,
                                    const ExternalImage *external) {
  assert(functions.execute && "a model needs its execute function");
  TableBuilder builder(module);
  Constant *weights = builder.null();
  if (!info.weights.symbol.empty()) {
    GlobalVariable *global = module.getNamedGlobal(info.weights.symbol);
    if (!global) {
      global = new GlobalVariable(
          module,
          ArrayType::get(Type::getInt8Ty(module.getContext()),
                         static_cast<uint64_t>(info.weights.size)),
          /*isConstant=*/true, GlobalValue::ExternalLinkage, nullptr,
          info.weights.symbol);
      global->setVisibility(GlobalValue::HiddenVisibility);
    }
    weights = global;
  }
  Constant *value = builder.record({
      builder.integer(DLC_ABI_VERSION),
      builder.info(info),
      builder.orNull(functions.inputDims),
      builder.orNull(functions.outputDims),
      builder.orNull(functions.plan),
      functions.execute,
      builder.integer(info.weights.size),
      builder.integer(static_cast<int64_t>(info.weights.checksum)),
      weights,
      info.weights.file.empty() ? builder.null()
                                : builder.string(info.weights.file),
      image ? builder.image(*image) : builder.null(),
      builder.integer(functions.numSizes),
      external ? builder.external(*external) : builder.null(),
  });
  std::string name = info.name + "_model_table";
  // Entry points may have declared the table before.
  GlobalVariable *declared = module.getNamedGlobal(name);
  auto *table =
      new GlobalVariable(module, value->getType(), /*isConstant=*/true,
                         GlobalValue::ExternalLinkage, value);
  if (declared) {
    declared->replaceAllUsesWith(table);
    declared->eraseFromParent();
  }
  table->setName(name);
  table->setVisibility(GlobalValue::HiddenVisibility);
  table->setAlignment(Align(8));
  return table;
}

/// Defines `name` as a call of runtime function `callee` with `leading` in
/// front of its own arguments.
static void defineForward(Module &module, const Twine &name, StringRef callee,
                          Type *result, ArrayRef<Type *> arguments,
                          Constant *leading) {
  SmallVector<Type *> parameters;
  if (leading)
    parameters.push_back(leading->getType());
  parameters.append(arguments.begin(), arguments.end());
  FunctionCallee target = module.getOrInsertFunction(
      callee, FunctionType::get(result, parameters, false));
  cast<Function>(target.getCallee())
      ->setVisibility(GlobalValue::HiddenVisibility);
  Function *function =
      Function::Create(FunctionType::get(result, arguments, false),
                       GlobalValue::ExternalLinkage, name, module);
  function->addFnAttr(Attribute::NoUnwind);
  IRBuilder<> builder(
      BasicBlock::Create(module.getContext(), "entry", function));
  SmallVector<Value *> values;
  if (leading)
    values.push_back(leading);
  for (Argument &argument : function->args())
    values.push_back(&argument);
  CallInst *call = builder.CreateCall(target, values);
  call->setTailCallKind(CallInst::TCK_Tail);
  if (result->isVoidTy())
    builder.CreateRetVoid();
  else
    builder.CreateRet(call);
}

void dlc::addModelEntryPoints(Module &module, StringRef name, bool hasState) {
  LLVMContext &context = module.getContext();
  auto *pointer = PointerType::get(context, 0);
  auto *status = Type::getInt32Ty(context);
  auto *size = Type::getInt64Ty(context);
  std::string tableName = (name + "_model_table").str();
  GlobalVariable *table = module.getNamedGlobal(tableName);
  if (!table) {
    table = new GlobalVariable(
        module, ArrayType::get(size, sizeof(dlc_model) / 8),
        /*isConstant=*/true, GlobalValue::ExternalLinkage, nullptr, tableName);
    table->setVisibility(GlobalValue::HiddenVisibility);
  }

  Function *getInfo = Function::Create(FunctionType::get(pointer, false),
                                       GlobalValue::ExternalLinkage,
                                       name + "_get_info", module);
  getInfo->addFnAttr(Attribute::NoUnwind);
  IRBuilder<> builder(BasicBlock::Create(context, "entry", getInfo));
  builder.CreateRet(builder.CreateLoad(
      pointer, builder.CreateConstGEP1_64(builder.getInt8Ty(), table, 8)));

  defineForward(module, name + "_create", "dlc_model_create", status,
                {pointer, pointer}, table);
  defineForward(module, name + "_output_shapes", "dlc_model_output_shapes",
                status, {pointer, pointer, pointer}, nullptr);
  defineForward(module, name + "_workspace", "dlc_model_workspace", size,
                {pointer, pointer}, nullptr);
  defineForward(module, name + "_run", "dlc_model_run", status,
                {pointer, pointer, pointer, pointer}, nullptr);
  defineForward(module, name + "_destroy", "dlc_model_destroy",
                Type::getVoidTy(context), {pointer}, nullptr);
  if (!hasState)
    return;
  defineForward(module, name + "_state_length", "dlc_model_state_length", size,
                {pointer}, nullptr);
  defineForward(module, name + "_state_bytes", "dlc_model_state_bytes", size,
                {pointer}, nullptr);
  defineForward(module, name + "_state_truncate", "dlc_model_state_truncate",
                status, {pointer, size}, nullptr);
  defineForward(module, name + "_state_reserve", "dlc_model_state_reserve",
                status, {pointer, size}, nullptr);
}

std::string dlc::requiredFeatures(const MCSubtargetInfo &subtarget,
                                  bool usesTiles) {
  static const char *const x86[] = {
#define DLC_X86_FEATURE(name, ...) name,
#include "dlc/X86Features.def"
  };
  static const char *const arm[] = {
#define DLC_ARM_FEATURE(name, ...) name,
#include "dlc/ARMFeatures.def"
  };
  ArrayRef<const char *> known;
  if (subtarget.getTargetTriple().isX86())
    known = x86;
  else if (subtarget.getTargetTriple().isAArch64())
    known = arm;
  std::string text;
  for (const char *name : known) {
    // Tiles need the operating system's permission: not for nothing.
    if (!usesTiles && StringRef(name).starts_with("amx-"))
      continue;
    // A name this LLVM does not have (an older or newer one) is not enabled.
    bool enabled =
        llvm::any_of(subtarget.getAllProcessorFeatures(),
                     [&](const SubtargetFeatureKV &feature) {
                       return StringRef(feature.Key) == name &&
                              subtarget.getFeatureBits().test(feature.Value);
                     });
    if (enabled)
      text += (text.empty() ? "" : ",") + std::string(name);
  }
  return text;
}
