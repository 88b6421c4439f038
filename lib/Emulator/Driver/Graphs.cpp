// CUDA graphs of kernel nodes.
#include "Device.h"

#include "llvm/ADT/STLExtras.h"

using namespace dlc;
using namespace dlc::emu;

void *Device::createGraph() {
  auto graph = std::make_unique<Graph>();
  void *handle = graph.get();
  graphs[handle] = std::move(graph);
  return handle;
}

Result Device::destroyGraph(void *handle) {
  return graphs.erase(handle) ? Success : InvalidHandle;
}

Result Device::addKernelNode(void *graph, void *const *after, size_t numAfter,
                             Function *function, LaunchShape shape,
                             void **params, void *&node) {
  auto found = graphs.find(graph);
  if (found == graphs.end())
    return InvalidHandle;
  auto made = std::make_unique<GraphNode>();
  made->function = function;
  made->shape = shape;
  auto &nodes = found->second->nodes;
  for (size_t i = 0; i < numAfter; ++i) {
    auto *other = static_cast<const GraphNode *>(after[i]);
    if (llvm::none_of(nodes, [&](const auto &n) { return n.get() == other; }))
      return InvalidHandle;
    made->after.push_back(other);
  }
  Result result = prepare(function, shape, params, made->values);
  if (result != Success)
    return result;
  node = made.get();
  nodes.push_back(std::move(made));
  return Success;
}

Result Device::instantiateGraph(void *graph, void *&exec) {
  auto found = graphs.find(graph);
  if (found == graphs.end())
    return InvalidHandle;
  auto made = std::make_shared<GraphExec>();
  for (const auto &node : found->second->nodes) {
    made->order.push_back(node.get());
    made->nodes[node.get()] = *node;
  }
  exec = made.get();
  graphExecs[exec] = std::move(made);
  return Success;
}

Result Device::setKernelNode(void *exec, void *node, Function *function,
                             LaunchShape shape, void **params) {
  auto found = graphExecs.find(exec);
  if (found == graphExecs.end())
    return InvalidHandle;
  auto own = found->second->nodes.find(static_cast<const GraphNode *>(node));
  if (own == found->second->nodes.end())
    return InvalidHandle;
  std::vector<uint64_t> values;
  Result result = prepare(function, shape, params, values);
  if (result != Success)
    return result;
  own->second.function = function;
  own->second.shape = shape;
  own->second.values = std::move(values);
  return Success;
}

Result Device::launchGraph(void *exec, Stream *stream) {
  auto found = graphExecs.find(exec);
  if (found == graphExecs.end())
    return InvalidHandle;
  // What is set later is for later launches. Other streams may go on between
  // two nodes.
  struct Running {
    GraphExec graph;
    std::set<const GraphNode *> done;
  };
  auto running = std::make_shared<Running>(Running{*found->second, {}});
  for (size_t i = 0; i < running->graph.order.size(); ++i)
    enqueue(stream, [this, running] {
      std::vector<const GraphNode *> able;
      for (const GraphNode *node : running->graph.order)
        if (!running->done.count(node) &&
            llvm::all_of(
                running->graph.nodes.at(node).after,
                [&](const GraphNode *n) { return running->done.count(n); }))
          able.push_back(node);
      const GraphNode *next = able[random() % able.size()];
      const GraphNode &node = running->graph.nodes.at(next);
      running->done.insert(next);
      return run(node.function, node.shape, node.values);
    });
  return Success;
}

Result Device::destroyGraphExec(void *handle) {
  return graphExecs.erase(handle) ? Success : InvalidHandle;
}
