// wgmma's assembly, as PTX ISA 9.2, 9.7.15.5.2 "wgmma.mma_async", writes it:
//   { .reg .pred p; setp.ne.b32 p, <scale-d>, 0;
//     wgmma.mma_async.sync.aligned.<shape>.<d>.<a>.<b> {<sums>}, <a>, <b
//       descriptor>, p, <scale-a>, <scale-b>, <trans-a>, <trans-b>; }
// with what a type has of the numbers, A as a descriptor or {four registers}.
#include "Assembly.h"
#include "Block.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"

#include <optional>

using namespace llvm;

namespace dlc::emu {

static constexpr StringLiteral kOwn = "dlc.emulator";
static constexpr StringLiteral kMultiply = "wgmma.mma_async.sync.aligned.";
static constexpr StringLiteral kWait = "wgmma.wait_group.sync.aligned ";

void markOwn(Instruction &instruction) {
  instruction.setMetadata(kOwn, MDNode::get(instruction.getContext(), {}));
}
bool isOwn(const Instruction &instruction) {
  return instruction.getMetadata(kOwn) != nullptr;
}

static std::string textOf(const CallInst &call) {
  return cast<InlineAsm>(call.getCalledOperand())->getAsmString().str();
}

static const InlineAsm *assemblyOf(const Value *value, StringRef text) {
  auto *call = dyn_cast<CallInst>(value);
  auto *assembly =
      call ? dyn_cast<InlineAsm>(call->getCalledOperand()) : nullptr;
  return assembly && StringRef(assembly->getAsmString()).contains(text)
             ? assembly
             : nullptr;
}

namespace {

/// The call's operands as the text names them.
class Operands {
public:
  explicit Operands(CallInst &call)
      : call(call),
        constraints(
            cast<InlineAsm>(call.getCalledOperand())->ParseConstraints()) {
    for (const InlineAsm::ConstraintInfo &constraint : constraints)
      numOutputs += constraint.Type == InlineAsm::isOutput;
  }

  unsigned outputs() const { return numOutputs; }

  /// What `$i` holds before the assembly: an input's value, or that of the
  /// input tied to an output; null: nothing.
  Value *value(unsigned i) const {
    if (i >= numOutputs)
      return i - numOutputs < call.arg_size()
                 ? call.getArgOperand(i - numOutputs)
                 : nullptr;
    for (unsigned input = numOutputs; input < constraints.size(); ++input) {
      const InlineAsm::ConstraintInfo &constraint = constraints[input];
      if (constraint.Type == InlineAsm::isInput &&
          constraint.hasMatchingInput() == false &&
          constraint.Codes.size() == 1 &&
          constraint.Codes.front() == std::to_string(i))
        return call.getArgOperand(input - numOutputs);
    }
    return nullptr;
  }

  /// "$12" -> 12.
  static std::optional<unsigned> index(StringRef token) {
    unsigned i = 0;
    if (!token.consume_front("$") || token.getAsInteger(10, i))
      return std::nullopt;
    return i;
  }

  /// A number written out, or an operand that is a constant.
  std::optional<int64_t> number(StringRef token) const {
    int64_t result = 0;
    if (!token.getAsInteger(10, result))
      return result;
    auto i = index(token);
    auto *constant = i ? dyn_cast_or_null<ConstantInt>(value(*i)) : nullptr;
    return constant ? std::optional(constant->getSExtValue()) : std::nullopt;
  }

private:
  CallInst &call;
  InlineAsm::ConstraintInfoVector constraints;
  unsigned numOutputs = 0;
};

/// The text of one wgmma.
struct Parsed {
  WgmmaShape shape = {};
  SmallVector<StringRef> sums, a; ///< one of a: a descriptor
  StringRef b, scaleD;
};

} // namespace

/// Cuts "{x, y}" or "x" off the front of a comma-separated list.
static SmallVector<StringRef> takeOperand(StringRef &text) {
  text = text.ltrim(" \t\n,");
  SmallVector<StringRef> parts;
  StringRef inner;
  if (text.consume_front("{"))
    std::tie(inner, text) = text.split('}');
  else {
    size_t end = text.find(',');
    inner = text.substr(0, end);
    text = text.substr(std::min(end, text.size()));
  }
  inner.split(parts, ',', -1, /*KeepEmpty=*/false);
  for (StringRef &part : parts)
    part = part.trim();
  return parts;
}

static std::optional<MmaType> factorTypes(StringRef a, StringRef b) {
  return StringSwitch<std::optional<MmaType>>((a + "." + b).str())
      .Case("f16.f16", MmaType::F16)
      .Case("bf16.bf16", MmaType::Bf16)
      .Case("tf32.tf32", MmaType::Tf32)
      .Case("s8.s8", MmaType::S8S8)
      .Case("s8.u8", MmaType::S8U8)
      .Case("u8.s8", MmaType::U8S8)
      .Case("u8.u8", MmaType::U8U8)
      .Default(std::nullopt);
}

/// "m64n128k16" -> 128, when the shape exists for the type.
static std::optional<unsigned> columnsOf(StringRef shape, MmaType type) {
  unsigned columns = 0, depth = 0;
  if (!shape.consume_front("m64n") || shape.consumeInteger(10, columns) ||
      !shape.consume_front("k") || shape.getAsInteger(10, depth))
    return std::nullopt;
  bool isHalf = type == MmaType::F16 || type == MmaType::Bf16;
  bool isInteger = !isHalf && type != MmaType::Tf32;
  unsigned wanted = isHalf ? 16 : isInteger ? 32 : 8;
  bool exists = columns >= 8 && columns <= 256 && columns % 8 == 0 &&
                (!isInteger || columns <= 32 || columns % 16 == 0) &&
                depth == wanted;
  return exists ? std::optional(columns) : std::nullopt;
}

static std::optional<Parsed> parse(StringRef text, const Operands &operands) {
  Parsed parsed;
  StringRef rest = text.substr(text.find(kMultiply) + kMultiply.size());
  auto [modifiers, list] = rest.split(' ');
  list = list.take_until([](char c) { return c == ';'; });
  SmallVector<StringRef> parts;
  modifiers.split(parts, '.');
  parsed.shape.saturates = parts.size() > 4 && parts.back() == "satfinite";
  if (parts.size() != 4 + parsed.shape.saturates)
    return std::nullopt;
  auto type = factorTypes(parts[2], parts[3]);
  auto columns = type ? columnsOf(parts[0], *type) : std::nullopt;
  if (!columns)
    return std::nullopt;
  bool isHalf = *type == MmaType::F16 || *type == MmaType::Bf16;
  bool isInteger = !isHalf && *type != MmaType::Tf32;
  if (parts[1] != (isInteger ? "s32" : "f32") ||
      (parsed.shape.saturates && !isInteger))
    return std::nullopt;
  parsed.shape.type = *type;
  parsed.shape.columns = *columns;

  parsed.sums = takeOperand(list);
  bool aInRegisters = list.ltrim(" \t\n,").starts_with("{");
  parsed.shape.aInRegisters = aInRegisters;
  parsed.a = takeOperand(list);
  SmallVector<StringRef> b = takeOperand(list), scale = takeOperand(list);
  if (parsed.sums.size() != *columns / 2 ||
      parsed.a.size() != (aInRegisters ? 4 : 1) || b.size() != 1 ||
      scale.size() != 1)
    return std::nullopt;
  parsed.b = b.front();
  // The predicate is what a setp says.
  std::string set = ("setp.ne.b32 " + scale.front() + ",").str();
  size_t at = text.find(set);
  if (at == StringRef::npos)
    return std::nullopt;
  auto [source, zero] = text.substr(at + set.size()).split(',');
  parsed.scaleD = source.trim();
  if (zero.take_until([](char c) { return c == ';'; }).trim() != "0")
    return std::nullopt;

  SmallVector<int64_t> numbers;
  while (!list.trim(" \t\n,").empty()) {
    SmallVector<StringRef> one = takeOperand(list);
    auto number = one.size() == 1 ? operands.number(one.front()) : std::nullopt;
    if (!number)
      return std::nullopt;
    numbers.push_back(*number);
  }
  size_t wanted = isInteger ? 0 : !isHalf ? 2 : aInRegisters ? 3 : 4;
  if (numbers.size() != wanted)
    return std::nullopt;
  for (unsigned i = 0; i < numbers.size(); ++i)
    if (i < 2 ? numbers[i] != 1 && numbers[i] != -1
              : numbers[i] != 0 && numbers[i] != 1)
      return std::nullopt;
  if (wanted >= 2) {
    parsed.shape.negatesA = numbers[0] == -1;
    parsed.shape.negatesB = numbers[1] == -1;
  }
  if (wanted >= 3)
    parsed.shape.transposesB = numbers.back();
  if (wanted == 4)
    parsed.shape.transposesA = numbers[2];
  return parsed;
}

/// The outputs' new values as the call's result.
static Value *pack(IRBuilder<> &builder, CallInst &call,
                   ArrayRef<Value *> values) {
  if (!call.getType()->isStructTy())
    return values.front();
  Value *result = PoisonValue::get(call.getType());
  for (auto [i, value] : enumerate(values))
    result = builder.CreateInsertValue(result, value, i);
  return result;
}

static Type *outputType(CallInst &call, unsigned i) {
  return call.getType()->isStructTy() ? call.getType()->getStructElementType(i)
                                      : call.getType();
}

static Error unknown(CallInst &call) {
  return createStringError("the emulator does not know the inline assembly '" +
                           textOf(call) + "' in '" +
                           call.getFunction()->getName() + "'");
}

static void finish(CallInst &call, Value *result) {
  if (!call.getType()->isVoidTy())
    call.replaceAllUsesWith(result);
  call.eraseFromParent();
}

static Error lowerMultiply(CallInst &call, SiteOf siteOf) {
  Operands operands(call);
  std::string text = textOf(call);
  std::optional<Parsed> parsed = parse(text, operands);
  if (!parsed)
    return unknown(call);
  IRBuilder<> builder(&call);
  auto value = [&](StringRef token) -> Value * {
    auto i = Operands::index(token);
    return i ? operands.value(*i) : nullptr;
  };
  Value *b = value(parsed->b);
  Value *scale = value(parsed->scaleD);
  auto written = operands.number(parsed->scaleD);
  if (!scale && written)
    scale = builder.getInt32(static_cast<uint32_t>(*written));
  SmallVector<Value *> a;
  for (StringRef token : parsed->a)
    a.push_back(value(token));
  if (!b || !scale || is_contained(a, nullptr) ||
      parsed->sums.size() != operands.outputs())
    return unknown(call);

  // The sums live in memory while the warpgroup computes.
  Type *word = builder.getInt32Ty();
  BasicBlock &entry = call.getFunction()->getEntryBlock();
  IRBuilder<> atEntry(&entry, entry.getFirstInsertionPt());
  auto *sums = atEntry.CreateAlloca(ArrayType::get(word, parsed->sums.size()),
                                    nullptr, "sums");
  auto place = [&](unsigned i) {
    return builder.CreateConstInBoundsGEP1_32(word, sums, i);
  };
  for (auto [i, token] : enumerate(parsed->sums)) {
    // In order, so that register i of the fragment is output i.
    if (Operands::index(token) != std::optional<unsigned>(i))
      return unknown(call);
    Value *before = operands.value(i);
    if (!before)
      before = Constant::getNullValue(word);
    markOwn(
        *builder.CreateStore(builder.CreateBitCast(before, word), place(i)));
  }
  auto flag = [](bool is, unsigned bit) { return uint32_t(is) << bit; };
  const WgmmaShape &s = parsed->shape;
  uint32_t shape = static_cast<uint32_t>(s.type) | s.columns << 4 |
                   flag(s.aInRegisters, 16) | flag(s.transposesA, 17) |
                   flag(s.transposesB, 18) | flag(s.negatesA, 19) |
                   flag(s.negatesB, 20) | flag(s.saturates, 21);
  SmallVector<Value *> registers(4, builder.getInt32(0));
  Value *descriptor = builder.getInt64(0);
  if (s.aInRegisters)
    for (auto [i, part] : enumerate(a))
      registers[i] = builder.CreateBitCast(part, word);
  else
    descriptor = a.front();
  callHost(builder, "dlc_emu_wgmma", builder.getVoidTy(),
           {builder.getInt32(shape), builder.getInt32(siteOf(call)), sums,
            registers[0], registers[1], registers[2], registers[3], descriptor,
            b, builder.CreateIntCast(scale, word, /*isSigned=*/false)});
  SmallVector<Value *> results;
  for (unsigned i = 0; i < parsed->sums.size(); ++i) {
    auto *load = builder.CreateLoad(word, place(i));
    markOwn(*load);
    results.push_back(builder.CreateBitCast(load, outputType(call, i)));
  }
  finish(call, pack(builder, call, results));
  return Error::success();
}

/// A wait, or no text at all; what operands are tied to stays as it is.
static Error lowerWait(CallInst &call, StringRef text, SiteOf siteOf) {
  unsigned left = 0;
  StringRef rest = text.trim();
  bool waits = rest.consume_front(kWait);
  if (waits && (rest.consumeInteger(10, left) || rest.trim() != ";"))
    return unknown(call);
  Operands operands(call);
  IRBuilder<> builder(&call);
  SmallVector<Value *> results;
  for (unsigned i = 0; i < operands.outputs(); ++i) {
    results.push_back(operands.value(i));
    if (!results.back())
      return unknown(call);
  }
  if (waits)
    callHost(builder, "dlc_emu_wgmma_wait", builder.getVoidTy(),
             {builder.getInt32(left), builder.getInt32(siteOf(call))});
  finish(call, results.empty() ? nullptr : pack(builder, call, results));
  return Error::success();
}

Error lowerAssembly(CallInst &call, SiteOf siteOf) {
  std::string text = textOf(call);
  if (StringRef(text).contains(kMultiply))
    return lowerMultiply(call, siteOf);
  StringRef trimmed = StringRef(text).trim();
  if (trimmed.empty() || trimmed.starts_with(kWait))
    return lowerWait(call, text, siteOf);
  return unknown(call);
}

Error checkSums(const Function &function) {
  bool waitsTakeSums = false;
  SmallVector<const Instruction *> products;
  for (const Instruction &instruction : instructions(function)) {
    if (assemblyOf(&instruction, kMultiply))
      products.push_back(&instruction);
    waitsTakeSums |=
        assemblyOf(&instruction, kWait) && !instruction.getType()->isVoidTy();
  }
  if (!waitsTakeSums)
    return Error::success();
  SetVector<const Value *> sums(products.begin(), products.end());
  for (size_t i = 0; i < sums.size(); ++i)
    for (const User *user : sums[i]->users()) {
      if (isa<ExtractValueInst, InsertValueInst, PHINode, SelectInst,
              FreezeInst>(user)) {
        sums.insert(user);
        continue;
      }
      if (assemblyOf(user, kMultiply) || assemblyOf(user, kWait))
        continue;
      std::string text;
      raw_string_ostream stream(text);
      user->print(stream);
      return createStringError("sums of wgmma are used with no wait between in "
                               "'" +
                               function.getName() + "', at '" +
                               StringRef(text).trim() + "'");
    }
  return Error::success();
}

} // namespace dlc::emu
