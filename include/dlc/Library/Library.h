// A kernel library as data: what a manifest asks for, after all defaults are
// filled in and all mistakes are found. An operation is a function of the
// library; an instance is code for a range of its sizes. What an operation
// computes is an ONNX model of a few nodes, so that whatever dlc does with
// models (fusion, proofs, schedules, records, code) serves libraries too.
#ifndef DLC_LIBRARY_LIBRARY_H
#define DLC_LIBRARY_LIBRARY_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace dlc::library {

/// An element type, by all its names.
struct ElementType {
  const char *name; ///< "bf16"
  int onnx;         ///< onnx::TensorProto_DataType
  int64_t code;     ///< DLDataTypeCode
  int64_t bits;
  const char *c; ///< of the C interface: "uint16_t"
};

/// The type called `name`; null: none is.
const ElementType *findType(llvm::StringRef name);

/// The values a size may have.
struct Range {
  int64_t min = 0;
  int64_t max = INT64_MAX;
  int64_t typical = 128;

  bool isFixed() const { return min == max; }
  bool isFree() const { return min == 0 && max == INT64_MAX; }
};

struct Dim {
  std::string name;
  /// Code is made for one value at a time: the general instance needs it fixed.
  bool mustBeFixed = false;
  Range range;
  /// Sizes that other code is for (one row: a product of vectors, not of
  /// matrices), so that they have instances of their own.
  std::vector<Range> special;
};

/// (dims[dim] + offset) / divisor * factor, rounded down; `factor` alone
/// without dim.
struct Extent {
  int dim = -1;
  int64_t offset = 0, divisor = 1, factor = 1;

  int64_t evaluate(llvm::ArrayRef<int64_t> dims) const;
  std::string str(llvm::ArrayRef<Dim> dims) const;
};

struct Tensor {
  std::string name;
  const ElementType *type = nullptr;
  std::vector<Extent> extents;
  bool isOutput = false;
};

/// Code for a range of sizes.
struct Instance {
  std::string name; ///< "m1_n4096_k4096", or "any"
  std::vector<Range> ranges;
  unsigned variants = 3;  ///< schedules by range of a size
  bool isGeneral = false; ///< takes all sizes of the operation
};

/// Rows in segments, each with a matrix of its own; see dlc_library_segments.
struct Segments {
  unsigned rows = 0, groups = 0; ///< dims
  unsigned offsets = 0;          ///< a tensor
  std::vector<int64_t> kinds;    ///< an entry a tensor
};

/// A matrix that is packed once and multiplied often.
struct Packed {
  unsigned tensor = 0; ///< its packed form, among the operation's
  Tensor original;     ///< what is packed
};

struct Operation {
  std::string name; ///< of the function, without the library's
  std::string kind; ///< "matmul"
  std::string type; ///< "bf16"
  std::string text; ///< what it computes, in words
  std::vector<Dim> dims;
  std::vector<Tensor> tensors; ///< as the function takes them
  std::vector<Instance> instances;
  std::optional<Segments> segments;
  std::optional<Packed> packed;
  /// What the profiler must know besides, as JSON's object.
  std::string attributes = "{}";
  /// makeModel gives graph operators in MLIR's text form, and no ONNX.
  bool isGraph = false;
  /// Why these sizes do not go together; empty: they do. Null: any do.
  std::function<std::string(llvm::ArrayRef<Range>)> checkSizes;
  /// The ONNX model, with names for the sizes that `ranges` leaves open. Its
  /// inputs and outputs are the tensors in order, less the segments' ends.
  /// The packed tensor is a constant in the file kPackedFile, whose bytes do
  /// not matter; or, where nothing is ever packed, an input as it is.
  std::function<std::string(llvm::ArrayRef<Range>, bool packs)> makeModel;

  /// Whether the packed tensor's form or number depends on dim `i`.
  bool isPackedBy(size_t i) const {
    return dims[i].mustBeFixed ||
           (segments && static_cast<int64_t>(i) == segments->groups);
  }
};

inline constexpr const char *kPackedFile = "packed.bin";

struct Library {
  std::string name; ///< C identifier
  std::string description;
  /// Target strings, best first; empty: what -target says.
  std::vector<std::string> cpus;
  int64_t budgetBytes = 0; ///< of the static library; 0: no bound
  std::vector<Operation> operations;
};

/// One mistake in a manifest.
struct ManifestProblem {
  std::string path; ///< "$.operations[2].dims.m"
  std::string reason;
};

/// All mistakes that were found.
class ManifestError : public llvm::ErrorInfo<ManifestError> {
public:
  static char ID;
  explicit ManifestError(std::vector<ManifestProblem> problems)
      : problems(std::move(problems)) {}
  llvm::ArrayRef<ManifestProblem> getProblems() const { return problems; }
  void log(llvm::raw_ostream &os) const override;
  std::error_code convertToErrorCode() const override;

private:
  std::vector<ManifestProblem> problems;
};

/// Reads the JSON text of a manifest (docs/kernel-library.md). `name` is the
/// library's where the manifest gives none. Fails with a ManifestError.
llvm::Expected<Library> readManifest(llvm::StringRef text,
                                     llvm::StringRef name);

} // namespace dlc::library

#endif // DLC_LIBRARY_LIBRARY_H
