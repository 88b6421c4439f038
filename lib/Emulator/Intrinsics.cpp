// The table of emulated NVPTX intrinsics, by name.
//
// Names, not intrinsic numbers, because families such as
// barrier.cta.{sync,red.and,...}[.aligned].{all,count} are read off their
// parts.
#include "Intrinsics.h"
#include "Block.h"
#include "HostOps.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/Module.h"

#include <optional>

using namespace llvm;

namespace dlc::emu {

CallInst *callHost(IRBuilder<> &builder, StringRef name, Type *result,
                   ArrayRef<Value *> arguments) {
  SmallVector<Type *> types;
  for (Value *argument : arguments)
    types.push_back(argument->getType());
  Module *module = builder.GetInsertBlock()->getModule();
  return builder.CreateCall(module->getOrInsertFunction(
                                name, FunctionType::get(result, types, false)),
                            arguments);
}

static std::optional<SpecialRegister> specialRegister(StringRef name) {
  if (!name.consume_front("read.ptx.sreg."))
    return name == "activemask" ? std::optional(SpecialRegister::ActiveMask)
                                : std::nullopt;
  using SR = SpecialRegister;
  return StringSwitch<std::optional<SR>>(name)
      .Case("tid.x", SR::TidX)
      .Case("tid.y", SR::TidY)
      .Case("tid.z", SR::TidZ)
      .Case("ntid.x", SR::NTidX)
      .Case("ntid.y", SR::NTidY)
      .Case("ntid.z", SR::NTidZ)
      .Case("ctaid.x", SR::CtaIdX)
      .Case("ctaid.y", SR::CtaIdY)
      .Case("ctaid.z", SR::CtaIdZ)
      .Case("nctaid.x", SR::NCtaIdX)
      .Case("nctaid.y", SR::NCtaIdY)
      .Case("nctaid.z", SR::NCtaIdZ)
      .Case("warpsize", SR::WarpSize)
      .Case("laneid", SR::LaneId)
      .Case("warpid", SR::WarpId)
      .Case("lanemask.eq", SR::LaneMaskEq)
      .Case("lanemask.le", SR::LaneMaskLe)
      .Case("lanemask.lt", SR::LaneMaskLt)
      .Case("lanemask.ge", SR::LaneMaskGe)
      .Case("lanemask.gt", SR::LaneMaskGt)
      .Case("dynamic_smem_size", SR::DynamicSharedBytes)
      // Clusters of one block.
      .Case("clusterid.x", SR::CtaIdX)
      .Case("clusterid.y", SR::CtaIdY)
      .Case("clusterid.z", SR::CtaIdZ)
      .Case("nclusterid.x", SR::NCtaIdX)
      .Case("nclusterid.y", SR::NCtaIdY)
      .Case("nclusterid.z", SR::NCtaIdZ)
      .Cases({"cluster.ctarank", "cluster.ctaid.x", "cluster.ctaid.y",
              "cluster.ctaid.z"},
             SR::Zero)
      .Cases({"cluster.nctarank", "cluster.nctaid.x", "cluster.nctaid.y",
              "cluster.nctaid.z"},
             SR::One)
      .Default(std::nullopt);
}

/// Host functions of one argument that keep its type.
static StringRef unaryMath(StringRef name) {
  return StringSwitch<StringRef>(name)
      .Case("ex2.approx.f32", "dlc_emu_ex2")
      .Case("ex2.approx.ftz.f32", "dlc_emu_ex2_ftz")
      .Case("lg2.approx.f", "dlc_emu_lg2")
      .Case("lg2.approx.ftz.f", "dlc_emu_lg2_ftz")
      .Case("rcp.rn.f", "dlc_emu_rcp")
      .Case("rcp.approx.ftz.f", "dlc_emu_rcp_ftz")
      .Case("rsqrt.approx.f", "dlc_emu_rsqrt")
      .Case("rsqrt.approx.ftz.f", "dlc_emu_rsqrt_ftz")
      .Case("rsqrt.approx.d", "dlc_emu_rsqrt_f64")
      .Cases({"sqrt.approx.f", "sqrt.rn.f", "sqrt.f"}, "dlc_emu_sqrt")
      .Cases({"sqrt.approx.ftz.f", "sqrt.rn.ftz.f"}, "dlc_emu_sqrt_ftz")
      .Case("sin.approx.f", "dlc_emu_sin")
      .Case("sin.approx.ftz.f", "dlc_emu_sin_ftz")
      .Case("cos.approx.f", "dlc_emu_cos")
      .Case("cos.approx.ftz.f", "dlc_emu_cos_ftz")
      .Case("tanh.approx.f32", "dlc_emu_tanh")
      .Case("saturate.f", "dlc_emu_saturate")
      .Case("f2tf32.rna", "dlc_emu_tf32")
      .Default("");
}

/// Intrinsics that say the same as a target-independent one.
static Intrinsic::ID genericIntrinsic(StringRef name) {
  return StringSwitch<Intrinsic::ID>(name)
      .Cases({"fmin.f", "fmin.d"}, Intrinsic::minimumnum)
      .Cases({"fmax.f", "fmax.d"}, Intrinsic::maximumnum)
      .Case("fmin.nan.f", Intrinsic::minimum)
      .Case("fmax.nan.f", Intrinsic::maximum)
      .Cases({"fma.rn.f", "fma.rn.d"}, Intrinsic::fma)
      .Case("sqrt.rn.d", Intrinsic::sqrt)
      .Default(Intrinsic::not_intrinsic);
}

static std::optional<Instruction::BinaryOps> roundedArithmetic(StringRef name) {
  using Result = std::optional<Instruction::BinaryOps>;
  return StringSwitch<Result>(name)
      .Cases({"add.rn.f", "add.rn.d"}, Instruction::FAdd)
      .Cases({"mul.rn.f", "mul.rn.d"}, Instruction::FMul)
      .Cases({"div.rn.f", "div.rn.d", "div.approx.f", "div.full"},
             Instruction::FDiv)
      .Default(std::nullopt);
}

/// Ordering between threads and memory: threads of a block take turns on one OS
/// thread, so that memory is always in order. What proxies see of each other is
/// not: isProxyFence.
static bool isOrderingOnly(StringRef name) {
  return name.starts_with("membar.") || name == "fence.sc.cluster" ||
         name.starts_with("fence.acquire.sync_restrict.") ||
         name.starts_with("fence.release.sync_restrict.") ||
         name == "fence.proxy.alias" || name == "fence.proxy.async.global" ||
         name.starts_with("fence.proxy.async_generic.acquire.") ||
         name == "nanosleep" || name.starts_with("prefetch.") ||
         name.starts_with("cp.async.bulk.prefetch.") ||
         name.starts_with("cp.async.bulk.tensor.prefetch.tile.");
}

/// What asynchronous proxies see ordinary writes to shared memory through.
static bool isProxyFence(StringRef name) {
  return name == "fence.proxy.async" ||
         name == "fence.proxy.async.shared_cta" ||
         name == "fence.proxy.async.shared_cluster" ||
         name.starts_with("fence.proxy.async_generic.release.");
}

static std::optional<CollectiveKind> shuffleKind(StringRef name) {
  using CK = CollectiveKind;
  return StringSwitch<std::optional<CK>>(name)
      .StartsWith("shfl.sync.idx.", CK::ShuffleIdx)
      .StartsWith("shfl.sync.up.", CK::ShuffleUp)
      .StartsWith("shfl.sync.down.", CK::ShuffleDown)
      .StartsWith("shfl.sync.bfly.", CK::ShuffleBfly)
      .Default(std::nullopt);
}

static std::optional<CollectiveKind> voteKind(StringRef name) {
  using CK = CollectiveKind;
  return StringSwitch<std::optional<CK>>(name)
      .Case("vote.all.sync", CK::VoteAll)
      .Case("vote.any.sync", CK::VoteAny)
      .Case("vote.uni.sync", CK::VoteUni)
      .Case("vote.ballot.sync", CK::VoteBallot)
      .Cases({"match.any.sync.i32", "match.any.sync.i64"}, CK::MatchAny)
      .Default(std::nullopt);
}

static std::optional<CollectiveKind> reductionKind(StringRef name) {
  if (!name.consume_front("redux.sync."))
    return std::nullopt;
  using CK = CollectiveKind;
  return StringSwitch<std::optional<CK>>(name)
      .Case("add", CK::ReduxAdd)
      .Case("min", CK::ReduxMinSigned)
      .Case("max", CK::ReduxMaxSigned)
      .Case("umin", CK::ReduxMinUnsigned)
      .Case("umax", CK::ReduxMaxUnsigned)
      .Case("and", CK::ReduxAnd)
      .Case("or", CK::ReduxOr)
      .Case("xor", CK::ReduxXor)
      .Default(std::nullopt);
}

/// Both factors' types of mma.sync, by what follows "mma.".
static std::optional<MmaType> mmaType(StringRef name) {
  return StringSwitch<std::optional<MmaType>>(name)
      .Case("m16n8k16.row.col.f32.f32", MmaType::F16)
      .Case("m16n8k16.row.col.bf16", MmaType::Bf16)
      .Case("m16n8k8.row.col.tf32", MmaType::Tf32)
      .Case("m16n8k32.row.col.s8", MmaType::S8S8)
      .Case("m16n8k32.row.col.s8.u8", MmaType::S8U8)
      .Case("m16n8k32.row.col.u8.s8", MmaType::U8S8)
      .Case("m16n8k32.row.col.u8", MmaType::U8U8)
      .Default(std::nullopt);
}

namespace {

/// Builds the replacement of one call; each method returns the new value.
class Lowering {
public:
  Lowering(CallInst &call, SiteOf siteOf)
      : call(call), builder(&call), siteOf(siteOf) {}

  Value *special(SpecialRegister which) {
    return callHost(builder, "dlc_emu_special", builder.getInt32Ty(),
                    {int32(static_cast<uint32_t>(which))});
  }

  Value *shuffle(CollectiveKind kind, bool hasPredicate) {
    Type *type =
        hasPredicate ? call.getType()->getStructElementType(0) : call.getType();
    Value *bits =
        builder.CreateBitCast(call.getArgOperand(1), builder.getInt32Ty());
    Value *packed = collective(kind, call.getArgOperand(0), bits,
                               call.getArgOperand(2), call.getArgOperand(3));
    Value *value = builder.CreateBitCast(low(packed), type);
    return hasPredicate ? pairWith(value, high(packed)) : value;
  }

  Value *vote(CollectiveKind kind) {
    Value *packed = collective(kind, call.getArgOperand(0),
                               call.getArgOperand(1), int32(0), int32(0));
    return builder.CreateTrunc(low(packed), call.getType());
  }

  Value *reduction(CollectiveKind kind) {
    return low(collective(kind, call.getArgOperand(1), call.getArgOperand(0),
                          int32(0), int32(0)));
  }

  Value *warpBarrier() {
    return collective(CollectiveKind::WarpBarrier, call.getArgOperand(0),
                      int32(0), int32(0), int32(0));
  }

  /// PTX elects some lane of the mask; the hardware takes the lowest.
  Value *elect() {
    Value *mask = call.getArgOperand(0);
    Value *leader = builder.CreateBinaryIntrinsic(Intrinsic::cttz, mask,
                                                  builder.getFalse());
    Value *isLeader =
        builder.CreateICmpEQ(special(SpecialRegister::LaneId), leader);
    return pairWith(leader, isLeader);
  }

  /// `name` is what follows "barrier.cta.".
  Value *barrier(StringRef name) {
    bool hasCount = name.consume_back(".count");
    if (!hasCount)
      name.consume_back(".all");
    bool aligned = name.consume_back(".aligned");
    Value *id = call.getArgOperand(0);
    Value *count = hasCount ? call.getArgOperand(1) : int32(0);
    if (name == "arrive")
      return callHost(builder, "dlc_emu_barrier_arrive", builder.getVoidTy(),
                      {id, count, site()});
    auto reduction = StringSwitch<BarrierReduction>(name)
                         .Case("red.and", BarrierReduction::And)
                         .Case("red.or", BarrierReduction::Or)
                         .Case("red.popc", BarrierReduction::Popc)
                         .Default(BarrierReduction::None);
    Value *predicate =
        reduction == BarrierReduction::None
            ? int32(0)
            : builder.CreateZExt(call.getArgOperand(call.arg_size() - 1),
                                 builder.getInt32Ty());
    Value *result =
        callHost(builder, "dlc_emu_barrier", builder.getInt32Ty(),
                 {id, count, int32(hasCount), int32(aligned), site(),
                  int32(static_cast<uint32_t>(reduction)), predicate});
    return call.getType()->isVoidTy()
               ? result
               : builder.CreateTrunc(result, call.getType());
  }

  /// Parameters are a[4], b[2] and c[4], each a register.
  Value *multiply(MmaType type) {
    SmallVector<Value *> operands = {int32(static_cast<uint32_t>(type)),
                                     site()};
    for (Value *operand : call.args())
      operands.push_back(builder.CreateBitCast(operand, builder.getInt32Ty()));
    callHost(builder, "dlc_emu_mma", builder.getVoidTy(), operands);
    return words(4);
  }

  /// `name` is what follows "ldmatrix.sync.aligned.m8n8.". Null for other
  /// shapes and types.
  Value *loadMatrices(StringRef name) {
    unsigned count = 0;
    if (!name.consume_front("x") || name.consumeInteger(10, count))
      return nullptr;
    bool transposed = name.consume_front(".trans");
    if (!name.starts_with(".b16"))
      return nullptr;
    callHost(builder, "dlc_emu_ldmatrix", builder.getVoidTy(),
             {int32(count), int32(transposed), site(),
              genericPointer(call.getArgOperand(0))});
    return words(count);
  }

  /// `name` is what follows "cp.async.": {ca,cg}.shared.global.<bytes>[.s].
  Value *copyAsync(StringRef name) {
    if (name == "commit.group")
      return callHost(builder, "dlc_emu_commit_copies", builder.getVoidTy(),
                      {});
    if (name == "wait.group")
      return callHost(builder, "dlc_emu_wait_for_copies", builder.getVoidTy(),
                      {call.getArgOperand(0)});
    if (name == "wait.all")
      return callHost(builder, "dlc_emu_wait_for_copies", builder.getVoidTy(),
                      {int32(Block::kAllCopies)});
    unsigned bytes = 0;
    if (!(name.consume_front("ca.shared.global.") ||
          name.consume_front("cg.shared.global.")) ||
        name.consumeInteger(10, bytes))
      return nullptr;
    Value *source = name == ".s" ? call.getArgOperand(2) : int32(bytes);
    return callHost(builder, "dlc_emu_copy_async", builder.getVoidTy(),
                    {genericPointer(call.getArgOperand(0)),
                     genericPointer(call.getArgOperand(1)), int32(bytes),
                     source, site()});
  }

  Value *host(StringRef function, ArrayRef<Value *> arguments = {}) {
    return callHost(builder, function, builder.getVoidTy(), arguments);
  }

  /// `name` is what follows "cp.async.bulk.". Null for what takes part in a
  /// cluster, and for im2col, gather, scatter and reductions.
  Value *bulk(StringRef name) {
    if (name == "commit.group")
      return host("dlc_emu_bulk_commit");
    if (name == "wait.group" || name == "wait.group.read")
      return host("dlc_emu_bulk_wait",
                  {call.getArgOperand(0), int32(name.ends_with(".read"))});
    auto isFalse = [&](unsigned i) {
      auto *flag = dyn_cast<ConstantInt>(call.getArgOperand(i));
      return flag && flag->isZero();
    };
    if (name == "shared.cta.to.global")
      return host("dlc_emu_bulk_store",
                  {argument(0), argument(1), call.getArgOperand(2), site()});
    if (name == "global.to.shared.cta" ||
        (name == "global.to.shared.cluster" && isFalse(6)))
      return host("dlc_emu_bulk_load",
                  {argument(0), argument(2), call.getArgOperand(3), argument(1),
                   site()});
    bool isStore = name.consume_front("tensor.s2g.tile.");
    bool isOfCta = !isStore && name.consume_front("tensor.g2s.cta.tile.");
    unsigned rank = 0;
    if ((!isStore && !isOfCta && !name.consume_front("tensor.g2s.tile.")) ||
        name.consumeInteger(10, rank) || name != "d")
      return nullptr;
    // Shared memory, the mbarrier of a load, the map, the coordinates; then
    // mask and hint, whether there are any, and the number of blocks.
    unsigned map = isStore ? 1 : 2;
    if (!isStore && !isOfCta &&
        !(isFalse(map + rank + 3) && isFalse(map + rank + 5)))
      return nullptr;
    SmallVector<Value *> arguments = {argument(0), argument(map)};
    if (!isStore)
      arguments.push_back(argument(1));
    arguments.push_back(int32(rank));
    for (unsigned i = 0; i < TensorMap::kMaxRank; ++i)
      arguments.push_back(i < rank ? call.getArgOperand(map + 1 + i)
                                   : int32(0));
    arguments.push_back(site());
    return host(isStore ? "dlc_emu_bulk_store_tensor"
                        : "dlc_emu_bulk_load_tensor",
                arguments);
  }

  /// `name` is what follows "wgmma.".
  Value *warpGroup(StringRef name) {
    if (name == "fence.sync.aligned")
      return host("dlc_emu_wgmma_fence", {site()});
    if (name == "commit_group.sync.aligned")
      return host("dlc_emu_wgmma_commit", {site()});
    if (name == "wait_group.sync.aligned")
      return host("dlc_emu_wgmma_wait", {low(call.getArgOperand(0)), site()});
    return nullptr;
  }

  /// Registers are not counted here; ptxas takes multiples of 8 from 24 to 256.
  Value *setMaxRegisters() {
    auto *count = dyn_cast<ConstantInt>(call.getArgOperand(0));
    return count && count->getZExtValue() % 8 == 0
               ? static_cast<Value *>(builder.getInt32(0))
               : nullptr;
  }

  /// A cluster has one block: the address is of rank 0.
  Value *mapToBlock() {
    host("dlc_emu_mapa", {call.getArgOperand(1), site()});
    return builder.CreateAddrSpaceCast(call.getArgOperand(0), call.getType());
  }

  /// `name` is what follows "barrier.cluster.".
  Value *cluster(StringRef name) {
    name.consume_back(".aligned");
    if (name == "arrive" || name == "arrive.relaxed")
      return host("dlc_emu_cluster_arrive", {site()});
    return name == "wait" ? host("dlc_emu_cluster_wait", {site()}) : nullptr;
  }

  /// `name` is what follows "mbarrier.". Null for dropped participants and
  /// relaxed forms.
  Value *mbarrier(StringRef name) {
    Value *object = genericPointer(call.getArgOperand(0));
    Type *none = builder.getVoidTy();
    if (name == "init.shared" || name == "init")
      return callHost(builder, "dlc_emu_mbarrier_init", none,
                      {object, call.getArgOperand(1), site()});
    if (name == "inval.shared" || name == "inval")
      return callHost(builder, "dlc_emu_mbarrier_inval", none,
                      {object, site()});
    bool hasScope = false;
    for (StringRef scope : {"cta", "cluster"})
      for (StringRef space : {"cta", "cluster"})
        hasScope |=
            name.consume_back((".scope." + scope + ".space." + space).str());
    if (!hasScope)
      name.consume_back(".shared");
    if (name == "expect.tx" || name == "complete.tx")
      return host(name == "expect.tx" ? "dlc_emu_mbarrier_expect"
                                      : "dlc_emu_mbarrier_complete",
                  {object, call.getArgOperand(1), site()});
    // Bytes are expected before the arrival.
    bool expects = name == "arrive.expect.tx";
    if (expects)
      host("dlc_emu_mbarrier_expect", {object, call.getArgOperand(1), site()});
    if (name == "arrive" || expects)
      return callHost(
          builder, "dlc_emu_mbarrier_arrive", builder.getInt64Ty(),
          {object,
           !expects && call.arg_size() > 1 ? call.getArgOperand(1) : int32(1),
           site()});
    if (!name.consume_front("test.wait") && !name.consume_front("try.wait"))
      return nullptr;
    name.consume_back(".tl"); // a limit of time
    bool isParity = name.consume_front(".parity");
    if (!name.empty())
      return nullptr;
    Value *state =
        builder.CreateZExt(call.getArgOperand(1), builder.getInt64Ty());
    callHost(builder, "dlc_emu_mbarrier_wait", none,
             {object, state, int32(isParity), site()});
    return builder.getTrue();
  }

  Value *math(StringRef function) {
    return callHost(builder, function, call.getType(), {call.getArgOperand(0)});
  }

  Value *generic(Intrinsic::ID id) {
    SmallVector<Value *> operands(call.args());
    return builder.CreateIntrinsic(id, {call.getType()}, operands);
  }

  Value *arithmetic(Instruction::BinaryOps op) {
    return builder.CreateBinOp(op, call.getArgOperand(0),
                               call.getArgOperand(1));
  }

  /// dp4a: c and the products of four bytes (PTX ISA, 9.7.1 "dp4a").
  Value *dotBytes(bool isUnsigned) {
    Value *sum = call.getArgOperand(2);
    for (unsigned i = 0; i < 4; ++i) {
      auto byte = [&](unsigned argument) {
        Value *shifted =
            builder.CreateLShr(call.getArgOperand(argument), 8 * i);
        Value *narrow = builder.CreateTrunc(shifted, builder.getInt8Ty());
        return builder.CreateIntCast(narrow, builder.getInt32Ty(),
                                     /*isSigned=*/!isUnsigned);
      };
      sum = builder.CreateAdd(sum, builder.CreateMul(byte(0), byte(1)));
    }
    return sum;
  }

  /// Two numbers as f16 or bf16, the first in the high half.
  Value *roundPair(bool isHalf) {
    Value *word = callHost(builder, isHalf ? "dlc_emu_half2" : "dlc_emu_bf16x2",
                           builder.getInt32Ty(),
                           {call.getArgOperand(0), call.getArgOperand(1)});
    return builder.CreateBitCast(word, call.getType());
  }

  Value *exit() {
    return callHost(builder, "dlc_emu_exit", builder.getVoidTy(), {});
  }

private:
  Value *int32(uint32_t value) { return builder.getInt32(value); }
  Value *genericPointer(Value *pointer) {
    return builder.CreateAddrSpaceCast(pointer, builder.getPtrTy());
  }
  Value *argument(unsigned i) { return genericPointer(call.getArgOperand(i)); }
  /// The words of the last mma.sync or ldmatrix, as the call's type.
  Value *words(unsigned count) {
    auto part = [&](unsigned i, Type *type) {
      return builder.CreateBitCast(
          callHost(builder, "dlc_emu_word", builder.getInt32Ty(), {int32(i)}),
          type);
    };
    auto *type = dyn_cast<StructType>(call.getType());
    if (!type)
      return part(0, call.getType());
    Value *values = PoisonValue::get(type);
    for (unsigned i = 0; i < count; ++i)
      values = builder.CreateInsertValue(values,
                                         part(i, type->getElementType(i)), i);
    return values;
  }
  Value *site() { return int32(siteOf(call)); }
  Value *low(Value *packed) {
    return builder.CreateTrunc(packed, builder.getInt32Ty());
  }
  Value *high(Value *packed) {
    return builder.CreateTrunc(builder.CreateLShr(packed, 32),
                               builder.getInt1Ty());
  }
  Value *pairWith(Value *value, Value *flag) {
    Value *pair = PoisonValue::get(call.getType());
    pair = builder.CreateInsertValue(pair, value, 0);
    return builder.CreateInsertValue(pair, flag, 1);
  }
  Value *collective(CollectiveKind kind, Value *mask, Value *value, Value *lane,
                    Value *clamp) {
    return callHost(builder, "dlc_emu_collective", builder.getInt64Ty(),
                    {int32(static_cast<uint32_t>(kind)), mask, site(),
                     builder.CreateZExt(value, builder.getInt64Ty()), lane,
                     clamp});
  }

  CallInst &call;
  IRBuilder<> builder;
  SiteOf siteOf;
};

} // namespace

/// The replacement's value; null when the intrinsic is not known.
static Value *lower(CallInst &call, StringRef name, SiteOf siteOf) {
  Lowering lowering(call, siteOf);
  if (auto which = specialRegister(name))
    return lowering.special(*which);
  if (auto kind = shuffleKind(name))
    return lowering.shuffle(*kind, name.ends_with("p"));
  if (auto kind = voteKind(name))
    return lowering.vote(*kind);
  if (auto kind = reductionKind(name))
    return lowering.reduction(*kind);
  if (StringRef rest = name; rest.consume_front("barrier.cta."))
    return lowering.barrier(rest);
  if (StringRef function = unaryMath(name); !function.empty())
    return lowering.math(function);
  if (Intrinsic::ID id = genericIntrinsic(name))
    return lowering.generic(id);
  if (auto op = roundedArithmetic(name))
    return lowering.arithmetic(*op);
  if (StringRef rest = name; rest.consume_front("mma."))
    if (auto type = mmaType(rest))
      return lowering.multiply(*type);
  if (StringRef rest = name; rest.consume_front("ldmatrix.sync.aligned.m8n8."))
    return lowering.loadMatrices(rest);
  if (StringRef rest = name; rest.consume_front("mbarrier."))
    return lowering.mbarrier(rest);
  if (StringRef rest = name; rest.consume_front("cp.async.bulk."))
    return lowering.bulk(rest);
  if (StringRef rest = name; rest.consume_front("cp.async."))
    return lowering.copyAsync(rest);
  if (StringRef rest = name; rest.consume_front("wgmma."))
    return lowering.warpGroup(rest);
  if (StringRef rest = name; rest.consume_front("barrier.cluster."))
    return lowering.cluster(rest);
  if (isProxyFence(name))
    return lowering.host("dlc_emu_fence_proxy");
  if (name.starts_with("fence.mbarrier_init."))
    return lowering.host("dlc_emu_fence_mbarrier_init");
  if (name == "setmaxnreg.inc.sync.aligned.u32" ||
      name == "setmaxnreg.dec.sync.aligned.u32")
    return lowering.setMaxRegisters();
  if (name == "mapa" || name == "mapa.shared.cluster")
    return lowering.mapToBlock();
  if (name == "is_explicit_cluster")
    return ConstantInt::getFalse(call.getContext());
  if (name == "idp4a.s.s" || name == "idp4a.u.u")
    return lowering.dotBytes(name == "idp4a.u.u");
  if (name == "ff2f16x2.rn" || name == "ff2bf16x2.rn")
    return lowering.roundPair(name == "ff2f16x2.rn");
  if (name == "bar.warp.sync")
    return lowering.warpBarrier();
  if (name == "elect.sync")
    return lowering.elect();
  if (name == "exit")
    return lowering.exit();
  return nullptr;
}

Error lowerIntrinsic(CallInst &call, SiteOf siteOf) {
  StringRef name = call.getCalledFunction()->getName();
  name.consume_front("llvm.nvvm.");
  if (isOrderingOnly(name)) {
    call.eraseFromParent();
    return Error::success();
  }
  // Here it comes back when the phase is over; on a GPU it may come back
  // before.
  if ((name.starts_with("mbarrier.test.wait") ||
       name.starts_with("mbarrier.try.wait")) &&
      call.use_empty())
    return createStringError("nothing looks at the result of '%s', which may "
                             "come back before the phase is over",
                             call.getCalledFunction()->getName().str().c_str());
  Value *replacement = lower(call, name, siteOf);
  if (!replacement)
    return createStringError("the emulator does not know the intrinsic '%s'",
                             call.getCalledFunction()->getName().str().c_str());
  if (!call.getType()->isVoidTy())
    call.replaceAllUsesWith(replacement);
  call.eraseFromParent();
  return Error::success();
}

} // namespace dlc::emu
