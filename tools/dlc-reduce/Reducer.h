// Delta debugging over the nodes of a model.
#ifndef DLC_TOOLS_DLC_REDUCE_REDUCER_H
#define DLC_TOOLS_DLC_REDUCE_REDUCER_H

#include "Model.h"
#include "Predicate.h"

#include <chrono>

namespace dlc {

class Reducer {
public:
  Reducer(onnx::ModelProto model, Predicate &predicate, double seconds,
          bool quiet)
      : model(std::move(model)), predicate(predicate), seconds(seconds),
        quiet(quiet) {}

  /// Shrinks until no step helps or the time is over. `model` must fail.
  void run();
  const onnx::ModelProto &getModel() const { return model; }
  /// True when it ended because no step helps.
  bool isMinimal() const { return minimal; }

private:
  // Each tries some changes; true when one was taken.
  bool cutTail();
  bool cutHead();
  bool dropOutputs();
  bool dropNodes();
  bool mergeInputs();
  bool simplifyNodes();
  bool shrinkSizes();

  /// Takes `candidate` when it still fails.
  bool take(onnx::ModelProto candidate);
  bool isOver() const;
  void say(const char *step);
  double elapsed() const;
  bool keepRange(unsigned first, unsigned last);

  onnx::ModelProto model;
  Predicate &predicate;
  double seconds;
  bool quiet;
  bool minimal = false;
  std::chrono::steady_clock::time_point start =
      std::chrono::steady_clock::now();
};

} // namespace dlc

#endif // DLC_TOOLS_DLC_REDUCE_REDUCER_H
