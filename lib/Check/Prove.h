// Claims about index expressions that the normal form does not settle: every
// point is tried where there are at most 2^24, else Z3 is asked (bit-vectors
// where all sizes are known, integers where they are not), else: unknown.
#ifndef DLC_LIB_CHECK_PROVE_H
#define DLC_LIB_CHECK_PROVE_H

#include "Index.h"

#include <map>
#include <tuple>

namespace dlc::check {

enum class Answer { Proved, Refuted, Unknown };

/// Values of axes, symbols and data coordinates at which a claim fails.
using Witness = std::vector<std::pair<AtomId, int64_t>>;

/// `a` and `b` are the same truth at every point of `context`.
struct Claim {
  Guard a, b;
  ContextId context;
};

/// What one check may spend on claims, over all its kernels.
struct ProofBudget {
  int64_t points = int64_t(1) << 27;
  unsigned solverCalls = 16;
  unsigned claims = 20000;
};

struct Problem; // a claim with facts, compiled

class Prover {
public:
  Prover(IndexArena &index, ProofBudget &budget)
      : index(index), budget(budget) {}

  Answer prove(const Claim &claim, Witness &witness);
  Answer proveEqual(PolyId a, PolyId b, ContextId context, Witness &witness);
  Answer proveNonNegative(PolyId poly, ContextId context, Witness &witness);

  std::string str(const Witness &witness) const;
  unsigned numExhaustive = 0, numSolver = 0;

private:
  Answer tryPoints(const Claim &claim, Problem &problem, Witness &witness);
  Answer solve(const Claim &claim, const Problem &problem, Witness &witness);

  IndexArena &index;
  std::map<std::tuple<Guard, Guard, ContextId>, std::pair<Answer, Witness>>
      known;
  ProofBudget &budget;
};

/// The largest magnitude that anything in the claim takes; nullopt where a size
/// is not known or it is near 64 bits.
std::optional<uint64_t> largestMagnitude(const IndexArena &index,
                                         const Claim &claim,
                                         llvm::ArrayRef<Constraint> facts);

/// One call of Z3, bounded by its resource limit (so that the answer does not
/// depend on the machine's load) and by time.
Answer askSolver(const IndexArena &index, const Claim &claim,
                 llvm::ArrayRef<Constraint> facts, Witness &witness);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_PROVE_H
