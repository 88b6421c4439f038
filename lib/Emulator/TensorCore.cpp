// mma.sync.aligned.m16n8k16 with f32 sums, from the layout of the fragments in
// the PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"
// (9.7.14.5.8 of version 8.7):
//
//   groupID = lane >> 2, inGroup = lane % 4
//   A (16 x 16): a[i], i = 0..7: row groupID for i in {0,1,4,5}, else
//   groupID+8;
//                column inGroup * 2 + (i & 1), + 8 for i >= 4
//   B (16 x 8):  b[i], i = 0..3: row inGroup * 2 + (i & 1), + 8 for i >= 2;
//                column groupID
//   C, D (16x8): c[i], i = 0..3: row groupID, + 8 for i >= 2;
//                column inGroup * 2 + (i & 1)
//
// Products are exact; the order and the rounding of sums are not specified
// there: here they are added in f64 and rounded once.
#include "Block.h"

#include "llvm/ADT/APFloat.h"

using namespace dlc;
using namespace dlc::emu;

static double toNumber(uint32_t pair, unsigned half, bool isBf16) {
  auto bits = static_cast<uint16_t>(half ? pair >> 16 : pair);
  llvm::APFloat value(isBf16 ? llvm::APFloat::BFloat()
                             : llvm::APFloat::IEEEhalf(),
                      llvm::APInt(16, bits));
  bool losesInfo = false;
  value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven,
                &losesInfo);
  return value.convertToDouble();
}

// The operands stay on this lane's stack until the last lane has computed.
void Block::multiplyTiles(CollectiveKind kind, uint32_t site,
                          MmaOperands &operands) {
  collective(kind, ~0u, site, {reinterpret_cast<uintptr_t>(&operands), 0, 0});
  std::copy(std::begin(operands.d), std::end(operands.d),
            threads[running].sums.begin());
}

void Block::multiply(Collective &group) {
  constexpr unsigned rows = 16, columns = 8, depth = 16;
  if (group.mask != ~0u || group.arrived != ~0u)
    fail("mma.sync without all 32 lanes of the warp at '" +
         siteText(group.site) + "'");
  bool isBf16 = group.kind == CollectiveKind::MmaBf16;
  double a[rows][depth], b[depth][columns];
  auto operands = [&](unsigned lane) -> MmaOperands & {
    return *reinterpret_cast<MmaOperands *>(group.inputs[lane].value);
  };
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    unsigned groupId = lane >> 2, inGroup = lane % 4;
    const MmaOperands &mine = operands(lane);
    for (unsigned i = 0; i < 8; ++i) {
      unsigned row = groupId + (i & 2 ? 8 : 0);
      unsigned column = inGroup * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      a[row][column] = toNumber(mine.a[i / 2], i & 1, isBf16);
    }
    for (unsigned i = 0; i < 4; ++i)
      b[inGroup * 2 + (i & 1) + (i >= 2 ? 8 : 0)][groupId] =
          toNumber(mine.b[i / 2], i & 1, isBf16);
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    unsigned groupId = lane >> 2, inGroup = lane % 4;
    MmaOperands &mine = operands(lane);
    for (unsigned i = 0; i < 4; ++i) {
      unsigned row = groupId + (i & 2 ? 8 : 0), column = inGroup * 2 + (i & 1);
      double sum = mine.c[i];
      for (unsigned k = 0; k < depth; ++k)
        sum += a[row][k] * b[k][column];
      mine.d[i] = static_cast<float>(sum);
    }
    group.results[lane] = {0, false};
  }
}
