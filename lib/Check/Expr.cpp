// Hash-consing of scalar expressions.
#include "Expr.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using dlc::graph::ScalarFn;

// More than any kernel needs.
static constexpr size_t kMaxNodes = size_t(1) << 20;

template <typename T>
static uint64_t number(T value) {
  return reinterpret_cast<uintptr_t>(value.getAsOpaquePointer());
}

NodeId ExprArena::intern(Node node) {
  if (nodes.size() > kMaxNodes)
    broken = true;
  if (overflowed() && !nodes.empty())
    return 0;
  std::vector<uint64_t> key = {static_cast<uint64_t>(node.kind),
                               number(node.type),
                               node.payload,
                               number(node.init),
                               node.level,
                               node.extents.size()};
  key.insert(key.end(), node.extents.begin(), node.extents.end());
  key.insert(key.end(), node.args.begin(), node.args.end());
  auto [it, isNew] = nodeIds.try_emplace(std::move(key), nodes.size());
  if (isNew)
    nodes.push_back(std::move(node));
  return it->second;
}

GuardId ExprArena::guard(const Guard &guard) {
  std::vector<uint64_t> key;
  for (const Constraint &c : guard)
    key.push_back(uint64_t(c.poly) << 1 | c.isEquality);
  auto [it, isNew] = guardIds.try_emplace(std::move(key), guards.size());
  if (isNew)
    guards.push_back(guard);
  return it->second;
}

bool ExprArena::isCommutative(ScalarFn fn) {
  switch (fn) {
  case ScalarFn::add:
  case ScalarFn::mul:
  case ScalarFn::max:
  case ScalarFn::min:
  case ScalarFn::bit_and:
  case ScalarFn::bit_or:
  case ScalarFn::bit_xor:
  case ScalarFn::eq:
  case ScalarFn::ne:
    return true;
  default:
    return false;
  }
}

NodeId ExprArena::literal(TypedAttr value) {
  Node node(Node::Literal, value.getType());
  node.payload = number<Attribute>(value);
  return intern(std::move(node));
}

NodeId ExprArena::truth(MLIRContext *context, bool value) {
  return literal(BoolAttr::get(context, value));
}

NodeId ExprArena::apply(ScalarFn fn, ArrayRef<NodeId> args, Type type) {
  // The conjunction of two sets is a set.
  if (fn == ScalarFn::bit_and && type.isInteger(1))
    if (auto a = asGuard(args[0]), b = asGuard(args[1]); a && b) {
      Guard both = *a;
      both.insert(both.end(), b->begin(), b->end());
      llvm::sort(both);
      both.erase(llvm::unique(both), both.end());
      return inside(both, type.getContext());
    }
  Node node(Node::Apply, type);
  node.payload = static_cast<uint64_t>(fn);
  node.args.assign(args.begin(), args.end());
  if (isCommutative(fn))
    llvm::sort(node.args);
  return intern(std::move(node));
}

NodeId ExprArena::cast(NodeId value, Type type, bool saturate) {
  if (get(value).type == type)
    return value;
  Node node(Node::Cast, type);
  node.payload = saturate;
  node.args = {value};
  return intern(std::move(node));
}

NodeId ExprArena::coord(PolyId value, MLIRContext *context) {
  Type i64 = IntegerType::get(context, 64);
  if (auto c = index.constantValue(value))
    return literal(IntegerAttr::get(i64, *c));
  Node node(Node::Coord, i64);
  node.args = {value};
  return intern(std::move(node));
}

NodeId ExprArena::inside(const std::optional<Guard> &set,
                         MLIRContext *context) {
  if (!set || set->empty())
    return truth(context, set.has_value());
  Node node(Node::Inside, IntegerType::get(context, 1));
  node.args = {guard(*set)};
  return intern(std::move(node));
}

NodeId ExprArena::choose(const Guard &set, NodeId a, NodeId b) {
  if (set.empty() || a == b)
    return a;
  Node node(Node::Choose, get(a).type);
  node.args = {guard(set), a, b};
  return intern(std::move(node));
}

std::optional<Guard> ExprArena::asGuard(NodeId condition) const {
  const Node &node = get(condition);
  if (node.kind == Node::Inside)
    return guards[node.args[0]];
  if (node.kind == Node::Literal) {
    auto value = dyn_cast<IntegerAttr>(Attribute::getFromOpaquePointer(
        reinterpret_cast<void *>(node.payload)));
    if (value && value.getValue().isOne())
      return Guard();
  }
  return std::nullopt;
}

std::string ExprArena::str(NodeId id) const {
  const Node &node = get(id);
  std::string text;
  llvm::raw_string_ostream os(text);
  switch (node.kind) {
  case Node::Load:
    os << "load of tensor " << node.payload << "[";
    llvm::interleaveComma(node.args, os, [&](PolyId p) { os << index.str(p); });
    os << "]";
    break;
  case Node::Literal:
    os << "literal "
       << Attribute::getFromOpaquePointer(
              reinterpret_cast<void *>(node.payload));
    break;
  case Node::Apply:
    os << graph::stringifyScalarFn(node.fn()) << " : " << node.type;
    break;
  case Node::Cast:
    os << (node.payload ? "saturating " : "") << "cast "
       << get(node.args[0]).type << " -> " << node.type;
    break;
  case Node::Coord:
    os << "coordinate " << index.str(node.args[0]);
    break;
  case Node::Inside:
    os << "inside(" << index.str(guards[node.args[0]]) << ")";
    break;
  case Node::Choose:
    os << "value under the guard " << index.str(guards[node.args[0]]);
    break;
  case Node::Fold:
    os << "fold " << graph::stringifyFoldKind(node.foldKind()) << " over (";
    llvm::interleaveComma(node.extents, os,
                          [&](PolyId p) { os << index.str(p); });
    os << ")";
    if (node.init)
      os << " from " << node.init;
    break;
  }
  return text;
}
