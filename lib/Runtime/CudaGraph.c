/* CUDA graphs: the launches of a run handed to the driver at once.
 *
 * The first run of an instance launches one by one and notes what it launched.
 * Where that was nothing but launches, a later run only compares: the same
 * functions in the same order are a graph, in which grids and parameters that
 * changed (other tensors, other dims) are updated. A run that does anything
 * else launches what it held back and goes on one by one. Graphs are for runs
 * in the instance's own memory, which follow each other. */
#include "CudaDriver.h"

#include <stdlib.h>
#include <string.h>

/* A graph that has to be made anew more often than this costs more than it
 * saves. */
#define MOST_CHANGES 4

/* One launch is as fast without a graph. */
#define FEWEST_LAUNCHES 2

static size_t params_size(const dlc_cu_model *m, int64_t function) {
  return (size_t)m->model->device_image->functions[function].num_params *
         sizeof(uint64_t);
}

static void drop_exec(dlc_cu_model *m) {
  dlc_cu_graph *g = &m->graph;
  if (g->exec)
    m->driver.graph_exec_destroy(g->exec);
  if (g->graph)
    m->driver.graph_destroy(g->graph);
  g->exec = NULL;
  g->graph = NULL;
}

static void forget(dlc_cu_model *m) {
  dlc_cu_graph *g = &m->graph;
  drop_exec(m);
  for (size_t i = 0; i < g->count; ++i)
    free(g->launches[i].params);
  g->count = 0;
}

void dlc_cu_graph_destroy(dlc_cu_model *m) {
  forget(m);
  free(m->graph.launches);
  m->graph.launches = NULL;
  m->graph.capacity = 0;
}

/* No graphs any more: nothing is lost but time. */
static void give_up(dlc_cu_model *m) {
  forget(m);
  m->graph.state = DLC_CU_GRAPH_NEVER;
}

void dlc_cu_graph_begin(dlc_cu_model *m, bool allowed) {
  dlc_cu_graph *g = &m->graph;
  g->next = 0;
  g->held_back = false;
  g->records = false;
  if (!allowed || g->state == DLC_CU_GRAPH_NEVER)
    return;
  const char *setting = getenv("DLC_CUDA_GRAPHS");
  if (!m->driver.has_graphs || (setting && strcmp(setting, "0") == 0)) {
    give_up(m);
    return;
  }
  if (g->state == DLC_CU_GRAPH_KNOWN) {
    g->held_back = true;
    return;
  }
  forget(m);
  g->records = true;
}

/* The launch of this number is the running one. Returns false where there is no
 * memory to note it. */
static bool note(dlc_cu_model *m, int64_t function, int64_t blocks,
                 const uint64_t *params) {
  dlc_cu_graph *g = &m->graph;
  if (g->count == g->capacity) {
    size_t capacity = g->capacity ? 2 * g->capacity : 16;
    dlc_cu_launch *grown = realloc(g->launches, capacity * sizeof *grown);
    if (!grown)
      return false;
    g->launches = grown;
    g->capacity = capacity;
  }
  size_t size = params_size(m, function);
  dlc_cu_launch *launch = &g->launches[g->count];
  memset(launch, 0, sizeof *launch);
  launch->params = malloc(size + 1);
  if (!launch->params)
    return false;
  memcpy(launch->params, params, size);
  launch->function = function;
  launch->blocks = blocks;
  ++g->count;
  return true;
}

bool dlc_cu_graph_take(dlc_cu_model *m, int64_t function, int64_t blocks,
                       const uint64_t *params) {
  dlc_cu_graph *g = &m->graph;
  if (g->records && !note(m, function, blocks, params)) {
    g->records = false;
    give_up(m);
  }
  if (!g->held_back || g->next == g->count ||
      g->launches[g->next].function != function)
    return false;
  dlc_cu_launch *launch = &g->launches[g->next++];
  size_t size = params_size(m, function);
  if (launch->blocks != blocks || memcmp(launch->params, params, size) != 0) {
    memcpy(launch->params, params, size);
    launch->blocks = blocks;
    launch->changed = true;
  }
  return true;
}

static void describe(const dlc_cu_model *m, const dlc_cu_launch *launch,
                     void **pointers, dlc_cu_kernel_node *node) {
  const dlc_device_function *f =
      &m->model->device_image->functions[launch->function];
  for (int64_t i = 0; i < f->num_params; ++i)
    pointers[i] = &launch->params[i];
  memset(node, 0, sizeof *node);
  node->function = m->functions[launch->function];
  node->grid[0] = (unsigned)launch->blocks;
  node->grid[1] = node->grid[2] = 1;
  node->block[0] = (unsigned)f->block_threads;
  node->block[1] = node->block[2] = 1;
  node->shared_bytes = dlc_cu_shared_bytes(m, f);
  node->params = pointers;
}

static size_t most_params(const dlc_cu_model *m) {
  size_t most = 0;
  for (size_t i = 0; i < m->graph.count; ++i) {
    size_t size = params_size(m, m->graph.launches[i].function);
    most = size > most ? size : most;
  }
  return most / sizeof(uint64_t);
}

/* One launch after the other, as a stream would have them. */
static dlc_cu_result build(dlc_cu_model *m, void **pointers) {
  dlc_cu_graph *g = &m->graph;
  dlc_cu_result result = m->driver.graph_create(&g->graph, 0);
  for (size_t i = 0; result == DLC_CU_SUCCESS && i < g->count; ++i) {
    dlc_cu_kernel_node node;
    describe(m, &g->launches[i], pointers, &node);
    result = m->driver.graph_add_kernel(&g->launches[i].node, g->graph,
                                        i ? &g->launches[i - 1].node : NULL,
                                        i ? 1 : 0, &node);
    g->launches[i].changed = false;
  }
  return result == DLC_CU_SUCCESS
             ? m->driver.graph_instantiate(&g->exec, g->graph, 0)
             : result;
}

static dlc_cu_result update(dlc_cu_model *m, void **pointers) {
  dlc_cu_graph *g = &m->graph;
  for (size_t i = 0; i < g->count; ++i) {
    dlc_cu_launch *launch = &g->launches[i];
    if (!launch->changed)
      continue;
    dlc_cu_kernel_node node;
    describe(m, launch, pointers, &node);
    dlc_cu_result result =
        m->driver.graph_exec_set_kernel(g->exec, launch->node, &node);
    if (result != DLC_CU_SUCCESS)
      return result;
    launch->changed = false;
  }
  return DLC_CU_SUCCESS;
}

size_t dlc_cu_graph_flush(dlc_cu_model *m) {
  dlc_cu_graph *g = &m->graph;
  size_t held = g->held_back ? g->next : 0;
  g->held_back = false;
  return held;
}

/* What was held back is not what was known. */
void dlc_cu_graph_diverged(dlc_cu_model *m, bool only_launches) {
  dlc_cu_graph *g = &m->graph;
  g->records = false;
  if (!only_launches || ++g->changes > MOST_CHANGES)
    give_up(m);
  else if (g->state == DLC_CU_GRAPH_KNOWN)
    g->state = DLC_CU_GRAPH_UNKNOWN;
}

bool dlc_cu_graph_end(dlc_cu_model *m, dlc_cu_handle stream,
                      dlc_cu_result *result, const char **call) {
  dlc_cu_graph *g = &m->graph;
  *result = DLC_CU_SUCCESS;
  if (g->records) {
    g->records = false;
    if (g->count < FEWEST_LAUNCHES)
      give_up(m);
    else
      g->state = DLC_CU_GRAPH_KNOWN;
  }
  if (!g->held_back)
    return true;
  if (g->next != g->count)
    return false;
  void **pointers = malloc((most_params(m) + 1) * sizeof *pointers);
  if (!pointers)
    return false;
  dlc_cu_result made = g->exec ? update(m, pointers) : build(m, pointers);
  free(pointers);
  if (made != DLC_CU_SUCCESS) {
    drop_exec(m);
    return false;
  }
  g->held_back = false;
  *call = "cuGraphLaunch";
  *result = m->driver.graph_launch(g->exec, stream);
  return true;
}
