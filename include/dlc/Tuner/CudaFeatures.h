// What the cost model sees of a scheduled CUDA kernel: the fourth family of
// nests, "cuda". Features come from what a record holds, as those of CPUs do
// (Features.h).
#ifndef DLC_TUNER_CUDAFEATURES_H
#define DLC_TUNER_CUDAFEATURES_H

#include "dlc/Tuner/Features.h"

namespace dlc::tuner {

/// A kernel of static sizes, by its dearest launch.
struct CudaFacts {
  /// contraction, attention, row, map or generic, as code generation has it.
  std::string nest = "map";
  /// Of a product: batch, rows, columns, steps of the fold. Of an attention:
  /// outer points, rows with the heads that share keys, columns of the values,
  /// elements of a query; and keys.
  int64_t outer = 1, rows = 1, columns = 1, depth = 1, keys = 1;
  bool tensor = false; ///< on tensor cores
  int64_t factorBytes = 4;
  /// How the factors get to shared memory: 0 by registers, 1 by words, 2 in
  /// chunks of 16 bytes.
  int64_t leftCopy = 2, rightCopy = 2;
  bool rounds = false; ///< an attention whose keys are passed over twice
  int64_t cuts = 0;    ///< masks by position
  /// Of the largest stage: elements, steps of a fold, elements of a row.
  int64_t points = 1, folded = 1, rowElements = 1;
  int64_t launches = 1;
  int64_t readBytes = 4, writtenBytes = 4;
  double scalarOps = 1; ///< of a run
  bool strict = false, tf32 = false;
  std::string kernel; ///< SHA-256 of the kernel's canonical text

  /// Multiply-adds times two, of products and attentions.
  double flops() const;
  std::string toJson() const;
  static llvm::Expected<CudaFacts> parseJson(llvm::StringRef text);
};

/// The GPU of a record.
struct CudaTargetFacts {
  std::string arch = "cuda", device, sm = "sm_80";
  int64_t multiprocessors = 108, sharedBytes = 166912, registers = 65536,
          threads = 2048, l2 = 40 << 20;
  double memoryGBs = 1555, f32Tflops = 19.5, tensorTflops = 312;

  std::string toJson() const;
  static llvm::Expected<CudaTargetFacts> parseJson(llvm::StringRef text);
};

/// Whether a record's target is a GPU.
bool isCuda(llvm::StringRef target);

/// How a record's machine, of any kind, is called.
struct MachineLabel {
  std::string arch; ///< x86, arm, cuda
  std::string name; ///< of the CPU or GPU
  std::string isa;  ///< 512-bit x86, sm_90a
};
llvm::Expected<MachineLabel> labelOf(llvm::StringRef target);

/// Seconds of one run by hand-made rules: waves of blocks, occupancy, issue
/// slots, shared memory, bytes. Right in order, not in size.
double analyticSeconds(const CudaFacts &facts, const KnobValues &knobs,
                       const CudaTargetFacts &target);
std::vector<float> computeFeatures(const CudaFacts &facts,
                                   const KnobValues &knobs,
                                   const CudaTargetFacts &target);

/// Of a record whose target is a GPU.
llvm::Expected<Scorer> createCudaScorer(llvm::StringRef workload,
                                        llvm::StringRef target);

} // namespace dlc::tuner

#endif // DLC_TUNER_CUDAFEATURES_H
