// -emit=report: what was compiled and what it cost, as JSON.
#include "Compilation.h"

#include "llvm/Support/JSON.h"

#include <map>

#include <sys/resource.h>

using namespace dlc;

// The most memory this process had, in bytes.
static int64_t getPeakMemory() {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? int64_t(usage.ru_maxrss) * 1024
                                             : 0;
}

// What each launch of a kernel takes of a multiprocessor, as ptxas says.
static void writeLaunches(llvm::json::OStream &out, Compilation &c,
                          const KernelCode &code) {
  out.attributeArray("launches", [&] {
    for (auto [i, phase] : llvm::enumerate(code.phases))
      out.object([&] {
        out.attribute("name", phase.symbol);
        out.attribute("threads", code.threads[i]);
        auto it = c.resources.find(phase.symbol);
        if (it == c.resources.end())
          return;
        const KernelResources &used = it->second;
        out.attribute("registers", used.registers);
        out.attribute("shared_bytes", used.sharedBytes);
        out.attribute("stack_bytes", used.stackBytes);
        out.attribute("spill_store_bytes", used.spillStoreBytes);
        out.attribute("spill_load_bytes", used.spillLoadBytes);
        out.attribute("occupancy",
                      getOccupancy(used, code.threads[i], c.cuda->desc()));
      });
  });
}

static void writeKernel(llvm::json::OStream &out, Compilation &c,
                        const CompiledKernel &kernel, const KernelCode &code) {
  out.object([&] {
    out.attribute("name", kernel.name);
    out.attribute("nest", kernel.nest);
    out.attribute("calls", kernel.calls);
    if (!kernel.variantOf.empty())
      out.attribute("variant_of", kernel.variantOf);
    // Of a contraction's rows: what the schedule was chosen for.
    if (kernel.range)
      out.attributeObject("rows", [&] {
        out.attribute("low", kernel.range->low);
        if (kernel.range->high != INT64_MAX)
          out.attribute("high", kernel.range->high);
        out.attribute("typical", kernel.range->typical);
      });
    // What Winograd's filtering may add to an output, in units of 2^-24 times
    // the channels, the largest weight and the largest number of the image.
    if (kernel.errorFactor > 0)
      out.attribute("error_factor", kernel.errorFactor);
    // Of all its calls in a run; no kernel takes less than roofline_seconds.
    out.attribute("operations", kernel.work.scalarOps);
    out.attribute("bytes", kernel.work.bytes);
    if (!c.cuda)
      out.attribute("roofline_seconds", kernel.rooflineSeconds);
    out.attribute("phases", static_cast<int64_t>(code.phases.size()));
    if (c.cuda)
      return writeLaunches(out, c, code);
    out.attribute("seconds", kernel.seconds);
    out.attribute("object_bytes", static_cast<int64_t>(kernel.object.size()));
    out.attributeArray("layouts", [&] {
      for (const OperandPacking &packing : code.packings)
        out.object([&] {
          out.attribute("operand", packing.operand);
          out.attribute("layout", packing.layout);
          out.attribute("bytes", packing.bytes);
        });
    });
  });
}

static void writePrecision(llvm::json::OStream &out, Compilation &c) {
  auto &precision = c.precision;
  out.attributeObject("precision", [&] {
    out.attribute("products", static_cast<int64_t>(precision.products.size()));
    out.attribute("rounded", precision.numRounded());
    if (c.options.precision == CompileOptions::Precision::Auto) {
      out.attribute("max_error", c.options.maxError);
      out.attribute("error", precision.error);
      out.attribute("f32_seconds", precision.f32Seconds);
      out.attribute("seconds", precision.seconds);
      if (!precision.note.empty())
        out.attribute("note", precision.note);
    }
    out.attributeArray("list", [&] {
      for (const auto &item : precision.products)
        out.object([&] {
          out.attribute("name", item.name);
          out.attribute("flops", item.flops);
          if (item.error >= 0)
            out.attribute("error", item.error);
          out.attribute("precision", item.isRounded ? "bf16" : "f32");
        });
    });
  });
}

std::string dlc::makeReport(Compilation &c) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::json::OStream out(os, /*IndentSize=*/2);
  int64_t numKernels = c.countKernels();
  out.object([&] {
    out.attribute("schema_version", 1);
    out.attribute("dlc", getVersion());
    out.attribute("model", c.options.input);
    out.attribute("name", c.name);
    out.attribute("target",
                  c.cuda ? c.cuda->desc().name : c.target->desc().name);
    if (c.cuda)
      out.attribute("sm", c.cuda->desc().sm);
    out.attribute("triple", c.target->desc().triple);
    out.attribute("cpu", c.target->desc().cpu);
    out.attributeObject("machine", [&] {
      const TargetDesc &desc = c.target->desc();
      out.attribute("peak_gflops", desc.f32FlopsPerCycle * desc.ghz);
      if (desc.bf16TileFlopsPerCycle > 0)
        out.attribute("bf16_tile_peak_gflops",
                      desc.bf16TileFlopsPerCycle * desc.ghz);
      out.attribute("read_gbytes_per_second", desc.readGBs);
    });
    out.attribute("flags", c.options.shapingFlags);
    out.attribute("coverage", std::to_string(numKernels) +
                                  " kernels native, 0 interpreted");
    out.attribute("operators", c.numOps);
    out.attribute("kernels_native", numKernels);
    out.attribute("laws", c.info.laws);
    out.attributeObject("fusion", [&] {
      out.attribute("calls_before", c.fusion.calls);
      out.attribute("calls", c.fusion.kernels);
      out.attribute("groups", static_cast<int64_t>(c.fusion.groups.size()));
      out.attribute("members", c.fusion.members());
      out.attribute("fusible_edges", c.fusion.fusibleEdges);
      out.attribute("fused_edges", c.fusion.fusedEdges);
      std::map<llvm::StringRef, int64_t> missed; // by the condition that failed
      for (const fusion::RefusedPair &pair : c.fusion.missed)
        ++missed[fusion::getName(pair.refusal.condition)];
      out.attributeObject("missed_edges", [&] {
        for (auto [condition, count] : missed)
          out.attribute(condition, count);
      });
      out.attribute("grouping_seconds", c.fusion.groupingSeconds);
      out.attribute("refused", c.numRefused);
      out.attribute("attentions", c.fusion.numAttentions());
    });
    out.attributeObject("layout", [&] {
      out.attribute("tensors", c.layout.tensors);
      out.attribute("kernels", c.layout.kernels);
      out.attribute("refused", c.numKept);
      out.attribute("widened", c.layout.widened);
    });
    out.attributeObject("concats_in_place", [&] {
      out.attribute("concats", c.placed.concats);
      out.attribute("operands", c.placed.operands);
      out.attribute("copies", c.placed.copies);
    });
    if (!c.info.states.empty())
      out.attributeArray("states", [&] {
        for (const StateInfo &state : c.info.states)
          out.object([&] {
            out.attribute("input", state.tensor.name);
            out.attribute("output", state.output);
            out.attribute("axis", state.axis);
            out.attribute("in_place", state.length < 0);
            out.attribute("bits", state.tensor.typeBits);
          });
      });
    if (c.options.tune != CompileOptions::Tune::Off)
      out.attributeObject("tuning", [&] {
        out.attribute("kernels", c.tuning.kernels);
        out.attribute("tuned", c.tuning.tuned);
        out.attribute("measured", c.tuning.measured);
        out.attribute("failed", c.tuning.failed);
        out.attribute("expected_gain", c.tuning.expectedGain);
        out.attributeArray("schedules", [&] {
          for (const auto &item : c.tuning.items)
            out.object([&] {
              out.attribute("kernel", item.kernel);
              out.attribute("time_over_default", item.ratio);
            });
        });
      });
    if (!c.precision.products.empty())
      writePrecision(out, c);
    out.attribute("kernels_interpreted", 0);
    if (c.arenaBytes >= 0)
      out.attribute("arena_bytes", c.arenaBytes);
    out.attribute("weights_bytes",
                  c.weights.empty()
                      ? 0
                      : c.weights.back().offset + c.weights.back().bytes);
    out.attribute("compile_seconds", c.progress.getSeconds());
    out.attribute("compile_peak_bytes", getPeakMemory());
    out.attributeObject("stages", [&] {
      for (const Progress::Stage &stage : c.progress.getStages())
        out.attribute(stage.name, stage.seconds);
    });
    if (!c.assemblerRemarks.empty())
      out.attributeArray("assembler_remarks", [&] {
        for (const std::string &remark : c.assemblerRemarks)
          out.value(remark);
      });
    out.attributeArray("kernels", [&] {
      for (const CompiledKernel &kernel : c.kernels)
        writeKernel(out, c, kernel, c.code[kernel.name]);
    });
  });
  os << "\n";
  return text;
}
