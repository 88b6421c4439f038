// Index expressions in normal form: polynomials over axes, dim symbols, data
// coordinates and floors, hash-consed so that equal forms are equal numbers.
//
// A remainder is a - b * floor(a / b), so that the digits of a reshape cancel
// by arithmetic: the normal form of theory 7.2 for symbolic radices too. Floors
// are simplified under what is known at the place they stand: the ranges of
// axes and the guards around them (a Context).
#ifndef DLC_LIB_CHECK_INDEX_H
#define DLC_LIB_CHECK_INDEX_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace dlc::check {

using PolyId = uint32_t;
using AtomId = uint32_t;
using ContextId = uint32_t;

/// A hash of number sequences, for the tables of hash-consed things.
struct SequenceHash {
  size_t operator()(const std::vector<uint64_t> &key) const;
};
template <typename Value>
using SequenceMap =
    std::unordered_map<std::vector<uint64_t>, Value, SequenceHash>;

struct Atom {
  enum Kind { Axis, Symbol, Floor, Data } kind;
  /// Axis: nesting level and position. Symbol: number. Floor: numerator and
  /// denominator. Data: the scalar node it is read from.
  uint32_t a = 0, b = 0;
  /// Axis, Data: values are in [0, size).
  PolyId size = 0;
};

struct Term {
  llvm::SmallVector<AtomId, 3> atoms; // sorted, repeated for powers
  int64_t coefficient;
};
/// Sorted by atoms, no zero coefficients.
using Poly = llvm::SmallVector<Term, 3>;

/// poly >= 0, or poly == 0.
struct Constraint {
  PolyId poly;
  bool isEquality;
  bool operator<(const Constraint &o) const {
    return poly != o.poly ? poly < o.poly : isEquality < o.isEquality;
  }
  bool operator==(const Constraint &o) const {
    return poly == o.poly && isEquality == o.isEquality;
  }
};
/// A conjunction; sorted and without repetitions.
using Guard = std::vector<Constraint>;

/// What holds at a place of an expression.
struct Context {
  Guard facts;
  llvm::SmallVector<int64_t> lows; // by symbol: its least value
};

class IndexArena {
public:
  IndexArena();

  PolyId constant(int64_t value);
  PolyId axis(uint32_t level, uint32_t position, PolyId size);
  PolyId symbol(uint32_t number);
  PolyId data(uint32_t node, PolyId size);
  PolyId add(PolyId a, PolyId b);
  PolyId sub(PolyId a, PolyId b) { return add(a, scale(b, -1)); }
  PolyId scale(PolyId a, int64_t factor);
  PolyId mul(PolyId a, PolyId b);
  /// Rounds down; 0 for a denominator of 0, as graph::evaluate does.
  PolyId floorDiv(PolyId a, PolyId b, ContextId context);
  PolyId mod(PolyId a, PolyId b, ContextId context);
  /// `expr` with these for its dims and symbols.
  PolyId fromAffine(mlir::AffineExpr expr, llvm::ArrayRef<PolyId> dims,
                    llvm::ArrayRef<PolyId> symbols, ContextId context);
  /// `poly` with `replacement` for every occurrence of `atom`; floors are
  /// rebuilt.
  PolyId substitute(PolyId poly, AtomId atom, PolyId replacement,
                    ContextId context);
  /// `poly` with its floors made again, under what is known here.
  PolyId rebuild(PolyId poly, ContextId context) {
    return substitute(poly, ~AtomId(0), 0, context);
  }

  const Poly &get(PolyId id) const { return polys[id]; }
  const Atom &getAtom(AtomId id) const { return atoms[id]; }
  std::optional<int64_t> constantValue(PolyId id) const;
  /// Axes, symbols and data coordinates of `poly`, also inside floors.
  void collectAtoms(PolyId poly, std::vector<AtomId> &found) const;

  /// The context in which nothing is known but that sizes are not negative.
  ContextId emptyContext() const { return 0; }
  /// Also known: these extents are at least 1, for there is a point.
  ContextId withExtents(ContextId context, llvm::ArrayRef<PolyId> extents);
  /// Also known: every constraint of `guard`.
  ContextId assume(ContextId context, const Guard &guard);
  /// Also known: `constraint` is false (if that is one constraint).
  ContextId assumeNot(ContextId context, const Constraint &constraint);
  const Context &getContext(ContextId id) const { return contexts[id]; }

  /// The constraint divided by what its terms have in common.
  Constraint normalize(Constraint constraint);
  /// Leaves out what the context implies; nullopt when the guard cannot hold.
  std::optional<Guard> simplify(Guard guard, ContextId context);

  /// Shows poly >= 0 (at every point of the context), or gives up: false is no
  /// answer.
  bool isNonNegative(PolyId poly, ContextId context);
  /// The least value of `poly` over all its axes, as an expression of symbols;
  /// nullopt where that is not found (floors, data, mixed signs).
  std::optional<PolyId> atLeastPoint(PolyId poly, ContextId context);
  bool isZero(PolyId poly) const { return polys[poly].empty(); }

  /// Set when a number left 64 bits or a table its bound: nothing may be
  /// concluded from what was built since.
  bool overflowed() const { return broken; }
  /// For messages: axes are i0.. (domain) and k<level>.<position>.
  std::string str(PolyId poly) const;
  std::string str(const Guard &guard) const;

private:
  PolyId intern(Poly poly);
  AtomId internAtom(Atom atom);
  ContextId internContext(Context context);
  PolyId ofAtom(AtomId atom);
  std::optional<Term> divideTerm(const Term &a, const Term &b) const;
  std::optional<PolyId> divideExactly(PolyId a, PolyId b);
  PolyId extract(PolyId &a, PolyId b);
  bool reduce(PolyId &a, PolyId &b, ContextId context);
  std::optional<int64_t> constantQuotient(PolyId a, PolyId b,
                                          ContextId context);
  int64_t checked(__int128 value);

  bool prove(PolyId poly, ContextId context, unsigned depth, int &fuel);
  bool proveFloor(PolyId poly, AtomId atom, ContextId context, unsigned depth,
                  int &fuel);
  bool proveFromSymbols(PolyId poly, ContextId context);
  std::pair<PolyId, PolyId> split(PolyId poly, AtomId atom);
  bool isAtomNonNegative(AtomId atom, ContextId context, unsigned depth,
                         int &fuel);

  std::deque<Poly> polys;
  std::deque<Atom> atoms;
  std::deque<Context> contexts;
  SequenceMap<PolyId> polyIds;
  SequenceMap<AtomId> atomIds;
  SequenceMap<ContextId> contextIds;
  llvm::DenseMap<std::pair<uint32_t, uint32_t>, bool> proved;
  std::unordered_map<uint64_t, llvm::DenseMap<uint32_t, PolyId>> quotients;
  bool broken = false;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_INDEX_H
