/* Kernels that oneDNN computes: their sites, and the lives of instances. The
 * library and the primitives of a site are shared by all instances of a model;
 * what is kept of weights belongs to those that have them. */
#include "OneDnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The weights of living instances. */
typedef struct owner {
  const void *weights;
  int64_t instances;
  struct owner *next;
} owner;

static struct {
  dlc_rt_lock lock; /* of all of it, and of making sites' states */
  bool is_open;
  dlc_dnn dnn;
  owner *owners;
} library;

static dlc_rt_lock error_lock;
static char error_text[512];

const char *dlc_external_error(void) { return error_text; }

static int32_t fail(const char *kernel, const char *why) {
  dlc_rt_lock_acquire(&error_lock);
  snprintf(error_text, sizeof error_text, "%s%s%s", kernel ? kernel : "",
           kernel ? ": " : "", why);
  dlc_rt_lock_release(&error_lock);
  return 1;
}

/* Needs the lock. */
static int open_library(dlc_rt_error error) {
  if (library.is_open)
    return 0;
  if (dlc_dnn_open(&library.dnn, error))
    return 1;
  library.is_open = true;
  return 0;
}

static dlc_dnn_problem **state_of(dlc_external_site *site) {
  return __atomic_load_n((dlc_dnn_problem ***)&site->state, __ATOMIC_ACQUIRE);
}

static void destroy_state(dlc_external_site *site) {
  dlc_dnn_problem **state = site->state;
  for (int64_t i = 0; state && i < site->num_problems; ++i)
    dlc_dnn_destroy(&library.dnn, state[i]);
  free(state);
  site->state = NULL;
}

/* Needs the lock. */
static int prepare(dlc_external_site *site, dlc_rt_error error) {
  if (site->state)
    return 0;
  dlc_dnn_problem **state =
      calloc((size_t)site->num_problems + 1, sizeof *state);
  if (!state) {
    dlc_rt_fail(error, DLC_OUT_OF_MEMORY, "no memory");
    return 1;
  }
  for (int64_t i = 0; i < site->num_problems; ++i) {
    state[i] = dlc_dnn_prepare(&library.dnn, &site->problems[i],
                               site->constant_weights != 0, error);
    if (!state[i]) {
      while (i-- > 0)
        dlc_dnn_destroy(&library.dnn, state[i]);
      free(state);
      return 1;
    }
  }
  __atomic_store_n((dlc_dnn_problem ***)&site->state, state, __ATOMIC_RELEASE);
  return 0;
}

int32_t dlc_external_run(dlc_external_site *site, int64_t problem,
                         const void *src, const void *weights, void *dst) {
  char text[400] = "";
  dlc_rt_error error = {text, sizeof text};
  if (!state_of(site)) {
    dlc_rt_lock_acquire(&library.lock);
    int failed = open_library(error) || prepare(site, error);
    dlc_rt_lock_release(&library.lock);
    if (failed)
      return fail(site->kernel, text);
  }
  if (dlc_dnn_run(&library.dnn, state_of(site)[problem], src, weights, dst,
                  error))
    return fail(site->kernel, text);
  return 0;
}

int64_t dlc_external_version(char *error, size_t error_len) {
  dlc_rt_lock_acquire(&library.lock);
  int failed = open_library((dlc_rt_error){error, error_len});
  dlc_rt_lock_release(&library.lock);
  return failed ? 0 : library.dnn.number;
}

/*===-- Instances ---------------------------------------------------------===*/

/* Needs the lock. */
static owner **find_owner(const void *weights) {
  owner **link = &library.owners;
  while (*link && (*link)->weights != weights)
    link = &(*link)->next;
  return link;
}

static int add_owner(const void *weights, dlc_rt_error error) {
  owner **link = find_owner(weights);
  if (!*link) {
    *link = calloc(1, sizeof **link);
    if (!*link) {
      dlc_rt_fail(error, DLC_OUT_OF_MEMORY, "no memory");
      return 1;
    }
    (*link)->weights = weights;
  }
  ++(*link)->instances;
  return 0;
}

static int32_t open_image(const dlc_external_image *image, const void *weights,
                          char *error, size_t error_len) {
  char text[400] = "";
  dlc_rt_error why = {text, sizeof text};
  dlc_rt_lock_acquire(&library.lock);
  int failed = open_library(why);
  const char *kernel = NULL;
  for (int64_t i = 0; !failed && i < image->num_sites; ++i) {
    kernel = image->sites[i]->kernel;
    failed = prepare(image->sites[i], why);
  }
  failed = failed || add_owner(weights, why);
  if (failed && !library.owners)
    for (int64_t i = 0; i < image->num_sites; ++i)
      destroy_state(image->sites[i]);
  dlc_rt_lock_release(&library.lock);
  if (failed && error && error_len)
    snprintf(error, error_len, "%s%s%s%s", kernel ? "kernel '" : "",
             kernel ? kernel : "", kernel ? "': " : "", text);
  return failed;
}

static void close_image(const dlc_external_image *image, const void *weights,
                        size_t weights_size) {
  dlc_rt_lock_acquire(&library.lock);
  owner **link = find_owner(weights);
  if (*link && --(*link)->instances == 0) {
    owner *gone = *link;
    *link = gone->next;
    free(gone);
    for (int64_t i = 0; i < image->num_sites; ++i)
      for (int64_t j = 0;
           image->sites[i]->state && j < image->sites[i]->num_problems; ++j)
        dlc_dnn_forget(state_of(image->sites[i])[j], weights, weights_size);
  }
  if (!library.owners)
    for (int64_t i = 0; i < image->num_sites; ++i)
      destroy_state(image->sites[i]);
  dlc_rt_lock_release(&library.lock);
}

const dlc_external_backend dlc_external_onednn = {open_image, close_image};
