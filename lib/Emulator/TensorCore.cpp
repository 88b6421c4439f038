// mma.sync and ldmatrix, from the fragments' layouts in the PTX ISA 9.2,
// "Warp-level matrix instructions" (9.7.14): matrix fragments for
// mma.m16n8k16 with floating point type (9.7.14.5.8), mma.m16n8k8 (9.7.14.5.7),
// mma.m16n8k32 (9.7.14.5.10), and ldmatrix (9.7.14.5.15).
//
//   groupID = lane >> 2, inGroup = lane % 4
//   A (16 x k): row groupID in registers 0 and 2, groupID + 8 in 1 and 3
//               16-bit types: column inGroup * 2 + i, + 8 in registers 2 and 3
//               tf32:         column inGroup, + 4 in registers 2 and 3
//               8-bit types:  column inGroup * 4 + i, + 16 in registers 2 and 3
//   B (k x 8):  column groupID, rows as A's columns, register 1 as A's 2 and 3
//   C, D (16x8): c[i], i = 0..3: row groupID, + 8 for i >= 2;
//                column inGroup * 2 + (i & 1)
// where i counts the elements of a register from its low bits up.
//
// Products of floats are exact; the order and the rounding of sums are not
// specified there: here they are added in f64 and rounded once. Of tf32 the low
// 13 bits are ignored.
#include "Block.h"
#include "TensorFormats.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>

using namespace dlc;
using namespace dlc::emu;

static constexpr unsigned kRows = 16, kColumns = 8, kMostDepth = 32;

// The operands stay on this lane's stack until the last lane has computed.
void Block::multiplyTiles(uint32_t site, MmaOperands &operands) {
  collective(CollectiveKind::Mma, ~0u, site,
             {reinterpret_cast<uintptr_t>(&operands), 0, 0});
  std::copy(std::begin(operands.d), std::end(operands.d),
            threads[running].words.begin());
}

// Every product of 8-bit integers and every sum of 32 of them is a number of
// f64, too.
void Block::multiply(Collective &group) {
  if (group.mask != ~0u || group.arrived != ~0u)
    fail("mma.sync without all 32 lanes of the warp at '" +
         siteText(group.site) + "'");
  auto operands = [&](unsigned lane) -> MmaOperands & {
    return *reinterpret_cast<MmaOperands *>(group.inputs[lane].value);
  };
  MmaType type = operands(0).type;
  ElementFormat format = formatOf(type);
  bool leftSigned = type == MmaType::S8S8 || type == MmaType::S8U8;
  bool rightSigned = type == MmaType::S8S8 || type == MmaType::U8S8;
  auto element = [&](uint32_t bits, unsigned i, bool isSigned) {
    return format.isInteger ? integerElement(bits, i, isSigned)
                            : floatElement(bits, i, type);
  };
  float a[kRows][kMostDepth], b[kMostDepth][kColumns];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    unsigned groupId = lane >> 2, inGroup = lane % 4;
    const MmaOperands &mine = operands(lane);
    for (unsigned i = 0; i < format.perRegister; ++i) {
      unsigned step = inGroup * format.perRegister + i;
      unsigned half = format.depth / 2;
      for (unsigned r = 0; r < 4; ++r)
        a[groupId + (r & 1 ? 8 : 0)][step + (r & 2 ? half : 0)] =
            element(mine.a[r], i, leftSigned);
      for (unsigned r = 0; r < 2; ++r)
        b[step + (r ? half : 0)][groupId] = element(mine.b[r], i, rightSigned);
    }
  }
  double sums[kRows][kColumns] = {};
  for (unsigned row = 0; row < kRows; ++row)
    for (unsigned k = 0; k < format.depth; ++k)
      for (unsigned column = 0; column < kColumns; ++column)
        sums[row][column] += static_cast<double>(a[row][k]) * b[k][column];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    unsigned groupId = lane >> 2, inGroup = lane % 4;
    MmaOperands &mine = operands(lane);
    for (unsigned i = 0; i < 4; ++i) {
      double sum = sums[groupId + (i & 2 ? 8 : 0)][inGroup * 2 + (i & 1)];
      // Sums of integers wrap around.
      mine.d[i] =
          format.isInteger
              ? mine.c[i] + static_cast<uint32_t>(static_cast<int32_t>(sum))
              : llvm::bit_cast<uint32_t>(static_cast<float>(
                    static_cast<double>(llvm::bit_cast<float>(mine.c[i])) +
                    sum));
    }
    group.results[lane] = {0, false};
  }
}

//===----------------------------------------------------------------------===//
// ldmatrix
//===----------------------------------------------------------------------===//

// Lane 8 m + r has the address of row r of matrix m; of 8 x 8 elements of 16
// bits lane l gets the l % 4-th pair of row l / 4, of the transposed matrix
// when it is asked for.
void Block::loadMatrices(uint32_t site, MatrixOperands &operands) {
  constexpr unsigned rowBytes = 16;
  bool gives = running % kWarpSize < 8 * operands.count;
  auto address = reinterpret_cast<uintptr_t>(operands.row);
  auto window = reinterpret_cast<uintptr_t>(memory.sharedWindow);
  if (gives && address % rowBytes != 0)
    fail(llvm::formatv("ldmatrix of a row at address {0:x}, which is not a "
                       "multiple of {1}, at '{2}'",
                       address, rowBytes, siteText(site)));
  if (gives && (address < window ||
                address + rowBytes > window + launch.sharedWindowBytes))
    fail("ldmatrix of a row outside of shared memory at '" + siteText(site) +
         "'");
  if (gives)
    noteAccess(operands.row, rowBytes, site);
  if (gives && launch.options.check >= EmulatorCheck::Memory)
    checkAccess(operands.row, rowBytes, rowBytes, Access::Read, site);
  collective(CollectiveKind::LoadMatrix, ~0u, site,
             {reinterpret_cast<uintptr_t>(&operands), 0, 0});
  std::copy(std::begin(operands.words), std::end(operands.words),
            threads[running].words.begin());
}

void Block::load(Collective &group) {
  if (group.mask != ~0u || group.arrived != ~0u)
    fail("ldmatrix without all 32 lanes of the warp at '" +
         siteText(group.site) + "'");
  auto operands = [&](unsigned lane) -> MatrixOperands & {
    return *reinterpret_cast<MatrixOperands *>(group.inputs[lane].value);
  };
  auto element = [&](unsigned matrix, unsigned row, unsigned column) {
    uint16_t bits = 0;
    std::memcpy(&bits, operands(matrix * 8 + row).row + column * sizeof bits,
                sizeof bits);
    return static_cast<uint32_t>(bits);
  };
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    MatrixOperands &mine = operands(lane);
    unsigned groupId = lane >> 2, first = lane % 4 * 2;
    for (unsigned m = 0; m < mine.count; ++m)
      mine.words[m] = mine.transposed
                          ? element(m, first, groupId) |
                                element(m, first + 1, groupId) << 16
                          : element(m, groupId, first) |
                                element(m, groupId, first + 1) << 16;
    group.results[lane] = {0, false};
  }
}
