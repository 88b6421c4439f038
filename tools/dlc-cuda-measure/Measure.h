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
  unsigned blocks, threads, shared; /* bytes of dynamic shared memory */
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

/* The product, or the convolution, that a kernel computes: the work of a
 * library that has it. */
typedef struct peer {
  enum { PEER_NONE, PEER_PRODUCT, PEER_CONVOLUTION } kind;
  int alone; /* the kernel computes nothing else, and lays its result out so */
  int tf32;
  /* Numbers of operands: of a convolution, the filter and the image. */
  unsigned left, right;
  dlc_bundle_kind left_kind, right_kind, result_kind;
  int64_t batch, rows, columns, depth;
  /* Of the left factor's rows, depth and batch; of the right one's columns,
   * depth and batch. */
  int64_t left_strides[3], right_strides[3];
  int64_t image[4];  /* batch, channels, rows, columns */
  int64_t filter[3]; /* output channels, rows, columns */
  int64_t output[2], pads[2], steps[2], dilations[2];
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
/* The version of the device's cuBLAS; 0, with `reason`, where there is none.
 * After find_device, in the same process. */
long long find_library(char *reason, size_t reason_size);
/* Checks and measures candidates (NULL: the kernel's peer) of a list beside the
 * reference, from `*current` on, which says where it is; comes back at the
 * first that is not good. Runs in a process of its own, since an error of a
 * kernel spoils the whole context. */
void run_trials(const bundle *b, const kernel *k, const candidate *const *list,
                unsigned count, const char *driver, unsigned samples,
                report *reports, volatile unsigned *current);

/* A library's call, ready to run. The first members are the caller's. */
typedef struct peer_call {
  const peer *p;
  uint64_t left, right, result, workspace; /* addresses on the device */
  size_t workspace_bytes;                  /* that it needs */
  char reason[200];
  void *library, *image, *filter, *convolution, *output;
  int algorithm;
  long long version; /* as in a report */
} peer_call;

const char *peer_name(const peer *p);
/* Opens the library and prepares the call; false, with the reason, where there
 * is none or it does not take it. */
bool open_peer(peer_call *call);
/* Starts it on the default stream. */
bool run_peer(peer_call *call);

#endif /* DLC_TOOLS_DLC_CUDA_MEASURE_MEASURE_H */
