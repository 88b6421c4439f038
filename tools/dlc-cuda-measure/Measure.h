/* Measures a bundle of prebuilt candidates on this machine's GPU. Its files
 * share what is here. */
#ifndef DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H
#define DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H

#include "dlc/Tuner/BundleNumbers.h"

#include <stdbool.h>
#include <stddef.h>

enum {
  DLC_MOST_BUFFERS = 64,
  DLC_MOST_LAUNCHES = 16,
  DLC_MOST_SAMPLES = 64,
  DLC_MOST_CANDIDATES = 256
};

typedef struct launch {
  char symbol[128];
  unsigned blocks, threads;
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

/* candidates[0] has the schedule of the rules: the reference. */
typedef struct kernel {
  char name[256];
  char *workload; /* JSON */
  buffer operands[DLC_MOST_BUFFERS], results[DLC_MOST_BUFFERS];
  unsigned num_operands, num_results;
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
 * they are not as they should be. */
void read_bundle(bundle *b, const char *folder);
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
    TRIAL_CRASH
  } status;
  char reason[256];
  unsigned samples;
  double candidate_ns[DLC_MOST_SAMPLES], reference_ns[DLC_MOST_SAMPLES];
} report;

/* The name and capability of device 0 of the driver at `path`; false, with
 * `reason`, where there is none. Not after a fork of it. */
bool find_device(const char *path, char *name, size_t size, unsigned *arch,
                 char *reason, size_t reason_size);
/* Checks and measures one candidate beside the reference; runs in a process of
 * its own, since an error of a kernel spoils the whole context. */
void run_trial(const bundle *b, const kernel *k, const candidate *c,
               const char *driver, unsigned samples, report *out);

#endif /* DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H */
