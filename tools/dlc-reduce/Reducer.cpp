// The steps, from coarse to fine: the tail behind the fault and the head before
// it are found by halving (a cut value becomes an output or an input), then
// single nodes, outputs, inputs, attributes and sizes go. All steps are
// repeated until none helps: a later one often makes an earlier one possible.
#include "Reducer.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using llvm::BitVector;

double Reducer::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

bool Reducer::isOver() const { return elapsed() >= seconds; }

void Reducer::say(const char *step) {
  if (!quiet)
    llvm::errs() << llvm::format(
        "dlc-reduce: %.0f s, %u tests, %d nodes, %d inputs, %d outputs: %s\n",
        elapsed(), predicate.getNumTests(), model.graph().node_size(),
        model.graph().input_size(), model.graph().output_size(), step);
}

bool Reducer::take(onnx::ModelProto candidate) {
  if (isOver() || !predicate.holds(candidate))
    return false;
  model = std::move(candidate);
  return true;
}

// Tries nodes first..last-1 alone, with all values that cross the cuts.
bool Reducer::keepRange(unsigned first, unsigned last) {
  onnx::ModelProto candidate = model;
  BitVector keep(model.graph().node_size());
  keep.set(first, last);
  return keepNodes(candidate, keep, inferTypes(model), /*exposeCut=*/true) &&
         take(std::move(candidate));
}

// The shortest beginning that fails, by halving what is not known.
bool Reducer::cutTail() {
  bool changed = false;
  // The first `low` nodes do not fail; all of them do.
  unsigned low = 0;
  while (!isOver() &&
         low + 1 < static_cast<unsigned>(model.graph().node_size())) {
    unsigned middle = (low + model.graph().node_size()) / 2;
    if (keepRange(0, middle)) {
      changed = true;
      // Nodes that no output needed are gone too: their number is unknown.
      low = std::min<unsigned>(low, model.graph().node_size());
      say("tail cut");
    } else {
      low = middle;
    }
  }
  return changed;
}

bool Reducer::cutHead() {
  bool changed = false;
  unsigned step = model.graph().node_size() / 2;
  while (!isOver() && step > 0 && model.graph().node_size() > 1) {
    unsigned size = model.graph().node_size();
    step = std::min(step, size - 1);
    if (keepRange(step, size)) {
      changed = true;
      say("head cut");
    } else {
      step /= 2;
    }
  }
  return changed;
}

bool Reducer::dropOutputs() {
  bool changed = false;
  for (unsigned size = (model.graph().output_size() + 1) / 2; size > 0;
       size /= 2) {
    for (unsigned first = 0;
         first < static_cast<unsigned>(model.graph().output_size()) &&
         model.graph().output_size() > 1 && !isOver();) {
      BitVector keep(model.graph().output_size(), true);
      keep.reset(first,
                 std::min<unsigned>(first + size, model.graph().output_size()));
      onnx::ModelProto candidate = model;
      if (keepOutputs(candidate, keep) && take(std::move(candidate)))
        changed = true;
      else
        first += size;
    }
  }
  if (changed)
    say("outputs dropped");
  return changed;
}

// Takes out runs of nodes, shorter and shorter ones; what read them reads
// inputs.
bool Reducer::dropNodes() {
  bool changed = false;
  for (unsigned size = (model.graph().node_size() + 1) / 2; size > 0;
       size /= 2) {
    bool dropped = false;
    TypeMap types = inferTypes(model);
    for (unsigned first = 0;
         first < static_cast<unsigned>(model.graph().node_size()) &&
         model.graph().node_size() > 1 && !isOver();) {
      unsigned count = model.graph().node_size();
      BitVector keep(count, true);
      keep.reset(first, std::min(first + size, count));
      onnx::ModelProto candidate = model;
      if (keepNodes(candidate, keep, types, /*exposeCut=*/false) &&
          take(std::move(candidate))) {
        dropped = true;
        continue;
      }
      candidate = model;
      if (keepNodes(candidate, keep, types, /*exposeCut=*/true) &&
          take(std::move(candidate)))
        dropped = true;
      else
        first += size;
    }
    if (dropped)
      say("nodes dropped");
    changed |= dropped;
  }
  return changed;
}

// Inputs of one type become one.
bool Reducer::mergeInputs() {
  bool changed = false;
  for (int i = 0; i < model.graph().input_size(); ++i)
    for (int j = model.graph().input_size(); j-- > i + 1;) {
      const onnx::ValueInfoProto &a = model.graph().input(i),
                                 &b = model.graph().input(j);
      if (isOver() ||
          a.type().SerializeAsString() != b.type().SerializeAsString())
        continue;
      onnx::ModelProto candidate = model;
      for (onnx::NodeProto &node : *candidate.mutable_graph()->mutable_node())
        for (std::string &name : *node.mutable_input())
          if (name == b.name())
            name = a.name();
      dropUnused(candidate);
      changed |= take(std::move(candidate));
    }
  if (changed)
    say("inputs merged");
  return changed;
}

// Attributes and optional operands go, one at a time.
bool Reducer::simplifyNodes() {
  bool changed = false;
  for (int i = 0; i < model.graph().node_size(); ++i) {
    for (int a = model.graph().node(i).attribute_size(); a-- > 0;) {
      onnx::ModelProto candidate = model;
      candidate.mutable_graph()
          ->mutable_node(i)
          ->mutable_attribute()
          ->DeleteSubrange(a, 1);
      changed |= take(std::move(candidate));
    }
    while (model.graph().node(i).input_size() > 1) {
      onnx::ModelProto candidate = model;
      candidate.mutable_graph()->mutable_node(i)->mutable_input()->RemoveLast();
      dropUnused(candidate);
      if (!take(std::move(candidate)))
        break;
      changed = true;
      // A node may have become unused? Its outputs are: it stays where it is.
    }
    if (isOver())
      break;
  }
  if (changed)
    say("nodes simplified");
  return changed;
}

bool Reducer::shrinkSizes() {
  bool changed = false;
  for (int64_t size : getSizes(model))
    for (int64_t to : {int64_t(1), int64_t(2), size / 4, size / 2, size - 1}) {
      if (to < 1 || to >= size || isOver())
        continue;
      onnx::ModelProto candidate = model;
      if (!replaceSize(candidate, size, to) || !take(std::move(candidate)))
        continue;
      changed = true;
      break;
    }
  if (changed)
    say("sizes shrunk");
  return changed;
}

void Reducer::run() {
  dropUnused(model);
  say("start");
  bool changed = true;
  while (changed && !isOver()) {
    changed = dropOutputs();
    changed |= cutTail();
    changed |= cutHead();
    changed |= dropOutputs();
    changed |= dropNodes();
    changed |= mergeInputs();
    changed |= simplifyNodes();
    changed |= shrinkSizes();
  }
  minimal = !changed && !isOver();
  say(minimal ? "no step helps" : "the time is over");
}
