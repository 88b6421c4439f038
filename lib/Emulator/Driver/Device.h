// The emulated device behind the driver's functions: memory, code, streams.
//
// Work is put off until something waits for it, so that a program that does not
// wait reads what was there before. Device memory cannot be touched between the
// driver's calls: a host that follows a device's address dies.
#ifndef DLC_LIB_EMULATOR_DRIVER_DEVICE_H
#define DLC_LIB_EMULATOR_DRIVER_DEVICE_H

#include "dlc/Emulator/Emulator.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace dlc::emu {

/// CUresult, as far as it is used (CUDA driver API reference).
enum Result : int {
  Success = 0,
  InvalidValue = 1,
  OutOfMemory = 2,
  NotInitialized = 3,
  NoDevice = 100,
  InvalidDevice = 101,
  InvalidContext = 201,
  NoBinaryForGpu = 209,
  InvalidPtx = 218,
  InvalidHandle = 400,
  NotFound = 500,
  IllegalAddress = 700,
  LaunchOutOfResources = 701,
  LaunchFailed = 719,
  NotSupported = 801,
  Unknown = 999
};

/// DLC_EMULATED_CUDA: "key=value,..."; see docs/codegen-cuda.md.
struct Settings {
  unsigned devices = 1;
  unsigned sm = 90;
  EmulatorCheck check = EmulatorCheck::Execution;
  size_t memoryBytes = size_t(16) << 30;
  /// fail=<function>:<n>[:<result>]: the n-th call of it fails.
  std::string failFunction;
  unsigned failCall = 0;
  int failResult = Unknown;
  /// skip=<function>:<n>: the n-th call of it does nothing and says that all is
  /// well, as if a program had left it out.
  std::string skipFunction;
  unsigned skipCall = 0;
  /// crash=<n>: the n-th launch fails while it runs.
  unsigned crashLaunch = 0;
  /// scribble=<n>: the n-th launch besides changes the byte its first parameter
  /// points to.
  unsigned scribbleLaunch = 0;
  std::string name = "emulated GPU";
  bool reportsLeaks = false;
  unsigned seed = 1; ///< of the order of independent streams

  /// A word it does not know is in `problem`.
  static Settings parse(llvm::StringRef text, std::string &problem);
};

struct Module {
  std::shared_ptr<EmulatedModule> code;
  std::set<std::string> names;
};

struct Function {
  Module *module;
  std::string name;
  size_t numParameters;
  unsigned mostDynamicShared; ///< bytes that a launch may ask for
};

struct Stream;

/// What must be done before: so many pieces of work of a stream.
using Point = std::pair<Stream *, uint64_t>;

struct Stream {
  struct Work {
    std::vector<Point> after;
    std::function<Result()> run;
  };
  bool isLegacy = false;
  std::deque<Work> work;
  uint64_t enqueued = 0, done = 0;
};

struct Event {
  Stream *stream = nullptr; ///< null: never recorded
  uint64_t position = 0;
};

/// A kernel node: what cuLaunchKernel would be given, and the nodes before it.
struct GraphNode {
  Function *function;
  LaunchShape shape;
  std::vector<uint64_t> values;
  std::vector<const GraphNode *> after;
};

struct Graph {
  std::vector<std::unique_ptr<GraphNode>> nodes;
};

/// Its own copies of a graph's nodes, found by them.
struct GraphExec {
  std::vector<const GraphNode *> order; ///< as they were added
  std::map<const GraphNode *, GraphNode> nodes;
};

class Device {
public:
  static Device &get();
  ~Device();

  std::recursive_mutex mutex;
  Settings settings;
  bool isInitialized = false;
  unsigned contextUsers = 0;

  /// What went wrong in work that was put off; sticks.
  Result sticky = Success;

  Result allocate(size_t bytes, uint64_t &address);
  Result release(uint64_t address);
  /// [address, address + bytes) is in one allocation.
  bool isInside(uint64_t address, size_t bytes) const;
  bool touches(const void *pointer, size_t bytes) const;

  Result loadModule(const char *code, Module *&module, std::string &log);
  Result unloadModule(Module *module);
  Result findFunction(Module *module, const char *name, Function *&function);

  Stream *stream(void *handle); ///< null for an unknown one
  void *createStream();
  Result destroyStream(void *handle);
  /// Behind all earlier work of the stream, and `after`.
  void enqueue(Stream *stream, std::function<Result()> work,
               std::vector<Point> after = {});
  /// Runs work until the stream has got so far. Of streams that could go on,
  /// any may, as on a device.
  Result drain(Stream *stream, uint64_t position);
  Result drainAll();

  Event *createEvent();
  Event *event(void *handle);
  Result destroyEvent(void *handle);

  /// Bytes that its launches may ask for from now on.
  Result setMostDynamicShared(Function *function, int bytes);
  Result launch(Function *function, LaunchShape shape, void **params,
                Stream *stream);

  void *createGraph();
  Result destroyGraph(void *handle);
  Result addKernelNode(void *graph, void *const *after, size_t numAfter,
                       Function *function, LaunchShape shape, void **params,
                       void *&node);
  Result instantiateGraph(void *graph, void *&exec);
  Result setKernelNode(void *exec, void *node, Function *function,
                       LaunchShape shape, void **params);
  /// Nodes that do not wait for each other run in any order.
  Result launchGraph(void *exec, Stream *stream);
  Result destroyGraphExec(void *handle);

  /// Everything that was made and not given back; empty: nothing.
  std::string describeLive() const;
  /// Counts the call; the result of the injected failure if this is it.
  /// `isSkipped`: it is to do nothing.
  Result injected(llvm::StringRef function, bool &isSkipped);
  unsigned countCalls(const std::string &function) const {
    auto it = calls.find(function);
    return it == calls.end() ? 0 : it->second;
  }

private:
  Device();
  void protect(bool isOpen);
  bool canRun(const Stream *stream) const;
  void runNext(Stream *stream);
  Result compile(llvm::StringRef bitcode,
                 std::shared_ptr<EmulatedModule> &result,
                 std::string &log) const;
  Result run(Function *function, const LaunchShape &shape,
             const std::vector<uint64_t> &values);
  /// What a launch of a kernel needs, if that is possible; reads `params` now.
  Result prepare(Function *function, const LaunchShape &shape, void **params,
                 std::vector<uint64_t> &values) const;

  struct Allocation {
    size_t bytes, mapped;
  };
  std::map<uint64_t, Allocation> allocations;
  size_t usedBytes = 0;
  unsigned openDepth = 0;
  std::set<Module *> modules;
  /// Code that was compiled before, by its bitcode's hash and size: models are
  /// loaded again and again. A real driver keeps what it compiled, too.
  std::map<std::pair<uint64_t, size_t>, std::shared_ptr<EmulatedModule>>
      compiled;
  std::map<std::pair<Module *, std::string>, std::unique_ptr<Function>>
      functions;
  Stream legacy;
  std::set<Stream *> streams;
  std::set<Event *> events;
  std::map<void *, std::unique_ptr<Graph>> graphs;
  std::map<void *, std::shared_ptr<GraphExec>> graphExecs;
  std::map<std::string, unsigned> calls;
  unsigned launches = 0;
  std::mt19937 random;
};

/// Says on standard error what a real driver would not.
void complain(const std::string &text);

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_DRIVER_DEVICE_H
