//===- Converter.h - the conversion's state and its converters --*- C++ -*-===//
//
// Each operator has one converter function, in the file of its subject; it
// reads its node through a NodeContext and leaves its results there. Values are
// tensors, integer tensors known as expressions of dim symbols, or lists.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_CONVERTER_H
#define LIB_FRONTEND_ONNX_CONVERTER_H

#include "GraphBuilder.h"

#include "dlc/Dialect/Graph/IR/NarrowTypes.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace dlc {

/// A small integer tensor whose elements are known, perhaps symbolically.
struct ShapeValue {
  llvm::SmallVector<int64_t> dims;
  mlir::Type element;
  Dims values; ///< row-major

  bool isConstant() const;
};

/// A small float tensor whose elements are fractions of sizes.
struct Fractions {
  llvm::SmallVector<int64_t> dims;
  Dims above, below;
};

/// What the conversion knows of one onnx value.
struct Entry {
  enum Kind { None, Tensor, List, Poisoned } kind = None;
  mlir::Value value;               ///< null until needed when `shape` is there
  std::optional<ShapeValue> shape; ///< for Tensor
  std::vector<Entry> list;         ///< for List: a sequence
  /// For Tensor: the narrow type that `value` holds codes of; null: none.
  mlir::Type narrow = {};
  /// For Tensor: beside `value`, what is known of its floats.
  std::optional<Fractions> fractions = {};

  static Entry tensor(mlir::Value value) {
    return {Tensor, value, std::nullopt, {}};
  }
  static Entry known(ShapeValue shape) {
    return {Tensor, {}, std::move(shape), {}};
  }
};

class Converter;

/// One node while it is converted. Accessors refuse what they cannot give.
class NodeContext {
public:
  NodeContext(Converter &converter, mlir::Operation *op);

  mlir::Operation *op;
  Converter &converter;
  GraphBuilder &b;

  // Operands
  unsigned numInputs() const { return op->getNumOperands(); }
  bool has(unsigned i);
  Entry &entry(unsigned i);
  /// The tensor; refuses an omitted operand or a list. Codes of a narrow type
  /// only for operators that move them (getNarrowUse), which give
  /// their first result the type; predicates of numbers get decoded ones.
  mlir::Value in(unsigned i);
  /// The element type ONNX sees; null for an omitted operand or a list.
  mlir::Type elementOf(unsigned i);
  /// The tensor or null.
  mlir::Value maybe(unsigned i) { return has(i) ? in(i) : mlir::Value(); }
  /// All operands from `first` on.
  llvm::SmallVector<mlir::Value> inputs(unsigned first = 0);
  /// Elements of an integer operand as expressions; refuses run-time values.
  Dims symbolic(unsigned i, llvm::StringRef what);
  /// Elements of an integer operand; refuses what is not constant.
  llvm::SmallVector<int64_t> ints(unsigned i, llvm::StringRef what);
  llvm::SmallVector<double> floats(unsigned i, llvm::StringRef what);
  /// The known integer value of an operand, if any.
  std::optional<ShapeValue> shapeValue(unsigned i);
  /// The known fractions of a float operand, if any.
  std::optional<Fractions> fractions(unsigned i);

  // Attributes
  bool hasAttr(llvm::StringRef name) { return op->hasAttr(name); }
  int64_t i(llvm::StringRef name, int64_t otherwise);
  double f(llvm::StringRef name, double otherwise);
  llvm::StringRef s(llvm::StringRef name, llvm::StringRef otherwise);
  llvm::SmallVector<int64_t> is(llvm::StringRef name,
                                llvm::ArrayRef<int64_t> otherwise = {});
  llvm::SmallVector<double> fs(llvm::StringRef name);

  // Results
  bool wants(unsigned i);
  void result(unsigned i, mlir::Value value);
  void result(mlir::Value value) { result(0, value); }
  /// `value` holds codes if `element` is narrow.
  void typedResult(mlir::Value value, mlir::Type element);
  void resultEntry(unsigned i, Entry entry);
};

using NodeConverter = void (*)(NodeContext &);
/// Operator name as makeOpName gives it without the dialect ("Conv").
using ConverterTable = llvm::StringMap<NodeConverter>;

void addElementwise(ConverterTable &table);
void addCasts(ConverterTable &table);
void addShapes(ConverterTable &table);
void addIndexing(ConverterTable &table);
void addReductions(ConverterTable &table);
void addContractions(ConverterTable &table);
void addConvolutions(ConverterTable &table);
void addPooling(ConverterTable &table);
void addNormalization(ConverterTable &table);
void addResize(ConverterTable &table);
void addQuantization(ConverterTable &table);
void addControlFlow(ConverterTable &table);
void addSequences(ConverterTable &table);
void addGenerators(ConverterTable &table);
void addRecurrent(ConverterTable &table);
void addSampling(ConverterTable &table);
void addSorting(ConverterTable &table);
void addScatters(ConverterTable &table);
/// After the others: falls back to their converters of known sizes.
void addDataSizes(ConverterTable &table);
void addRuntimeAxes(ConverterTable &table);
void addSpectral(ConverterTable &table);
void addTraining(ConverterTable &table);
void addRandom(ConverterTable &table);
void addClassical(ConverterTable &table);
void addMachineLearning(ConverterTable &table);
void addTrees(ConverterTable &table);
/// Operators of com.microsoft; after the standard ones, which some repeat.
void addContrib(ConverterTable &table);

const ConverterTable &getConverterTable();

/// The node's integer result when its operands are known; see
/// ShapeArithmetic.cpp.
std::optional<ShapeValue> evaluateShape(NodeContext &node);
/// The same for an operator that gives elements of its first operand, `data`,
/// other places.
std::optional<ShapeValue> evaluateMove(NodeContext &node, llvm::StringRef op,
                                       const ShapeValue &data);
/// Notes what a converted node's result is in sizes; see ShapeFractions.cpp.
void noteFractions(NodeContext &node);
/// The integers that a cast makes of known fractions.
std::optional<ShapeValue> truncateFractions(NodeContext &node, mlir::Type to);

/// The element type a Cast node asks for; null for an unknown number.
mlir::Type getCastTarget(NodeContext &node);

/// An element type by its number in ONNX; refuses unknown ones.
mlir::Type readElementType(NodeContext &node, llvm::StringRef attribute);

/// How casts treat what the narrow target has not; ONNX's defaults.
struct CastRules {
  bool saturate = true;
  graph::PowerRounding rounding = graph::PowerRounding::Up;
};
/// The operand's elements as `to`; codes if that is narrow.
mlir::Value castOperand(NodeContext &node, unsigned i, mlir::Type to,
                        const CastRules &rules = {});
/// The codes of x in a narrow type.
mlir::Value encode(GraphBuilder &b, mlir::Value x, mlir::Type narrow,
                   const CastRules &rules = {});
/// An attribute's elements as a constant: codes if its type is narrow.
mlir::Value makeConstant(GraphBuilder &b, mlir::ElementsAttr value);
/// Whether the operator takes codes for what they stand for.
enum class NarrowUse { Refused, Moved, Decoded };
NarrowUse getNarrowUse(llvm::StringRef op);

/// numpy.matmul: batch dims broadcast, vectors are rows or columns.
mlir::Value makeMatMul(GraphBuilder &b, mlir::Value x, mlir::Value y,
                       mlir::Type element = {});

/// graph.conv of a Conv-like node's attributes; zero points may be null.
mlir::Value makeConv(NodeContext &node, mlir::Value x, mlir::Value w,
                     mlir::Value xZero, mlir::Value wZero, mlir::Type element);

/// The first `count` (one i64 element) rows of x: a new dim symbol named for
/// the node, bound when the model runs. See graph.prefix.
mlir::Value makePrefix(NodeContext &node, mlir::Value x, mlir::Value count);
/// A size as an i64 scalar.
mlir::Value makeSizeValue(NodeContext &node, mlir::AffineExpr size);

/// x as u8 with the scale and zero point of its range: DynamicQuantizeLinear.
struct DynamicQuantized {
  mlir::Value value, scale, zeroPoint;
};
DynamicQuantized makeDynamicQuantize(GraphBuilder &b, mlir::Value x);

/// The number of elements over axes of x, as a tensor of one element.
mlir::Value makeCount(GraphBuilder &b, mlir::Value x,
                      llvm::ArrayRef<int64_t> axes, mlir::Type element);
/// The mean over axes, which stay as 1.
mlir::Value makeMean(GraphBuilder &b, mlir::Value x,
                     llvm::ArrayRef<int64_t> axes);
/// In the type of x.
mlir::Value makeSoftmax(GraphBuilder &b, mlir::Value x, int64_t axis);

class Converter {
public:
  Converter(mlir::ModuleOp model, llvm::StringRef file,
            const ConvertOptions &options);

  llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>> run();

  GraphBuilder builder;
  const ConvertOptions &options;
  /// The file's opset; the few changes of meaning that onnx's converter misses.
  int64_t sourceOpset = 0;

  /// The entry of an onnx value; throws for a value that could not be made.
  Entry &lookup(mlir::Value value);
  void define(mlir::Value value, Entry entry) {
    entries[value] = std::make_unique<Entry>(std::move(entry));
  }
  /// The tensor of an entry, made if it is only known; refuses codes.
  mlir::Value materialize(Entry &entry);
  /// The same for those who mind `entry.narrow`.
  mlir::Value materializeCodes(Entry &entry);
  /// Converts a region's block with these arguments; gives what it returns.
  std::vector<Entry> convertRegion(mlir::Region &region,
                                   llvm::ArrayRef<Entry> arguments);
  mlir::AffineExpr getSymbol(llvm::StringRef name);
  /// A new symbol for a size that the data tell, named for the node.
  mlir::AffineExpr makeSymbol(mlir::Operation *op);

private:
  struct PoisonedValue {};

  void convertFunction();
  void convertBlock(mlir::Block &block);
  void convertNode(mlir::Operation *op);
  void lower(mlir::Operation *op);
  bool expandFunctionBody(mlir::Operation *op);
  void eraseFrom(mlir::Operation *last);
  void report(mlir::Operation *op, const Refusal &refusal);
  void eraseUnused();

  mlir::ModuleOp model;
  std::string file;
  mlir::OwningOpRef<mlir::ModuleOp> result;
  /// Entries do not move: converters keep references to them.
  llvm::DenseMap<mlir::Value, std::unique_ptr<Entry>> entries;
  std::vector<std::string> symbols;
  llvm::StringMap<unsigned> symbolIndex;
  std::vector<ModelProblem> problems;
  bool anyMalformed = false;
  /// Bodies of expanded functions: their values are keys of `entries`.
  std::vector<std::unique_ptr<mlir::Block>> bodies;
  unsigned bodyDepth = 0;
  unsigned regionDepth = 0;
};

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_CONVERTER_H
