/* Measures a bundle of prebuilt candidates on this machine's GPU. Its files
 * share what is here. */
#ifndef DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H
#define DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H

#include "dlc/Tuner/BundleNumbers.h"
#include "dlc/runtime.h"

#include <stdbool.h>
#include <stddef.h>

enum {
  DLC_MOST_BUFFERS = 64,
  DLC_MOST_LAUNCHES = 16,
  DLC_MOST_SAMPLES = 64,
  DLC_MOST_CANDIDATES = 256
};

/* A kernel, or a library's call in the place of one. */
typedef struct launch {
  char symbol[128];
  unsigned blocks, threads, shared; /* bytes of dynamic shared memory */
  bool is_call;
  dlc_device_call call;
} launch;

typedef struct candidate {
  char *schedule; /* JSON */
  char file[128];
  launch launches[DLC_MOST_LAUNCHES];
  unsigned num_launches;
  int64_t scratch[DLC_MOST_BUFFERS]; /* bytes */
  unsigned num_scratch;
} candidate;

typedef struct buffer {
  dlc_bundle_kind kind;
  int64_t elements;
  uint64_t seed; /* operands */
  int factor;
  /* Results: of the largest, and which numbers of the oracle's file. */
  double tolerance;
  int64_t oracle, samples;
} buffer;

/* What a library would compute in a kernel's place, or of it. Its parameters
 * are the operands, a result of its own, and a workspace. */
typedef struct peer {
  bool is_there;
  int alone; /* the kernel computes nothing else, and lays its result out so */
  int64_t elements; /* of the result */
  dlc_device_call call;
} peer;

/* candidates[0] has the schedule of the rules: the reference. */
typedef struct kernel {
  char name[256];
  char *workload; /* JSON */
  buffer operands[DLC_MOST_BUFFERS], results[DLC_MOST_BUFFERS];
  unsigned num_operands, num_results;
  peer other;
  candidate *candidates;
  unsigned num_candidates;
} kernel;

typedef struct bundle {
  const char *folder;
  char device[64]; /* the description it was made for */
  unsigned arch;   /* capability times ten */
  bool exact;      /* no other runs it */
  bool generation; /* none of another major number */
  char run[80], compiler[64];
  int codegen, schema;
  char *target; /* JSON */
  double *oracle;
  size_t num_oracle;
  kernel *kernels;
  unsigned num_kernels;
} bundle;

/* Reads FOLDER/candidates.txt and oracle.bin; ends the program, in words, where
 * they are not as they should be. With `device_only` there need be no kernels.
 */
void read_bundle(bundle *b, const char *folder, bool device_only);
/* The bytes of FOLDER/NAME with a 0 behind them; NULL where there are none. */
char *read_file(const char *folder, const char *name, size_t *size);

/* What a trial found; lies in memory shared with the process that ran it. */
typedef struct report {
  volatile int is_done;
  enum {
    TRIAL_OK,
    TRIAL_COMPILE,
    TRIAL_WRONG,
    TRIAL_TIMEOUT,
    TRIAL_CRASH,
    TRIAL_ABSENT /* of a peer: there is no such library */
  } status;
  char reason[256];
  unsigned samples;
  double candidate_ns[DLC_MOST_SAMPLES], reference_ns[DLC_MOST_SAMPLES];
  long long version; /* of a peer: major * 10000 + minor * 100 + patch */
} report;

/* The name and capability of device 0 of the driver at `path`; false, with
 * `reason`, where there is none. Not after a fork of it. */
bool find_device(const char *path, char *name, size_t size, unsigned *arch,
                 char *reason, size_t reason_size);
/* Makes the device's context the current one. After find_device, in the same
 * process. */
bool enter_device(char *reason, size_t reason_size);
/* Checks and measures candidates (NULL: the kernel's peer) of a list beside the
 * reference, from `*current` on, which says where it is; comes back at the
 * first that is not good. Runs in a process of its own, since an error of a
 * kernel spoils the whole context. */
void run_trials(const bundle *b, const kernel *k, const candidate *const *list,
                unsigned count, const char *driver, unsigned samples,
                report *reports, volatile unsigned *current);

/* Of a dlc_device_call_kind: for people, and in records. */
const char *library_name(int64_t kind);
const char *library_knob(int64_t kind);
/* Its version, as in a report; 0, with the reason, where there is none. Calls
 * are prepared once, then run on the default stream. In the device's context.
 */
long long open_library(int64_t kind, char *reason, size_t size);
bool prepare_call(const dlc_device_call *call, char *reason, size_t size);
bool run_call(const dlc_device_call *call, const uint64_t *params, char *reason,
              size_t size);

#endif /* DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H */
