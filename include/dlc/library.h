/* The C interface of kernel libraries: what a library says of its operations,
 * and the contract between its generated tables and the runtime
 * (lib/Runtime/Library.c). Every <name>.h of a library holds a copy of this
 * text, so programs need no other header than it and dlc/runtime.h.
 *
 * C99, also valid C++. All structs are made of 8-byte fields. */
#ifndef DLC_LIBRARY_H
#define DLC_LIBRARY_H

#ifndef DLC_RUNTIME_H
#include "dlc/runtime.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A size that a function is given. */
typedef struct dlc_library_dim {
  const char *name; /*  0 */
  int64_t min;      /*  8: smallest value that some instance takes */
  int64_t max;      /* 16: largest; INT64_MAX when unbounded */
  int64_t typical;  /* 24 */
} dlc_library_dim;  /* 32 bytes */

/* One extent of a tensor: (dims[dim] + offset) / divisor * factor, rounded
 * down, or `factor` alone where dim is -1. */
typedef struct dlc_library_extent {
  int64_t dim;        /*  0 */
  int64_t offset;     /*  8 */
  int64_t divisor;    /* 16 */
  int64_t factor;     /* 24 */
} dlc_library_extent; /* 32 bytes */

/* A tensor: compact, row-major. */
typedef struct dlc_library_tensor {
  const char *name;                  /*  0 */
  int64_t type_code;                 /*  8: DLDataTypeCode */
  int64_t type_bits;                 /* 16 */
  int64_t is_output;                 /* 24 */
  int64_t rank;                      /* 32 */
  const dlc_library_extent *extents; /* 40: rank entries */
} dlc_library_tensor;                /* 48 bytes */

/* A CPU that instances are compiled for. The best one comes first. */
typedef struct dlc_library_cpu {
  const char *name;     /*  0: "x86-64-v3" */
  const char *features; /*  8: instruction sets that must be there */
  int64_t state;   /* 16: 0 not asked yet, 1 this machine has them, 2 not */
} dlc_library_cpu; /* 24 bytes */

/* How a matrix is packed: panels of rows or columns ("majors") of the product,
 * [panel][k / block][major of the panel][k of the block], ends padded with
 * zeros (`bytes` tells how much of k); a panel of 0: as it is. Packed matrices
 * begin with DLC_LIBRARY_PACKED_HEADER bytes that say how they are packed. A
 * matrix for each segment is packed as so many of them, one after the other,
 * each 64-byte aligned. */
#define DLC_LIBRARY_PACKED_HEADER 128
typedef struct dlc_library_packing {
  int64_t panel;         /*  0 */
  int64_t block;         /*  8 */
  int64_t element_bytes; /* 16 */
  int64_t majors;        /* 24 */
  int64_t inner;         /* 32 */
  int64_t major_step;    /* 40: elements from a major to the next */
  int64_t inner_step;    /* 48: from a k to the next */
  int64_t bytes;         /* 56: without the header */
} dlc_library_packing;   /* 64 bytes */

/* Code for a range of sizes on one CPU. */
typedef struct dlc_library_instance {
  const char *name;       /*  0 */
  dlc_library_cpu *cpu;   /*  8 */
  const int64_t *min;     /* 16: a value a dim */
  const int64_t *max;     /* 24 */
  const dlc_model *model; /* 32 */
  const int64_t *symbols; /* 40: for each symbol of the model, the dim */
  int64_t bytes;          /* 48: of its code */
  /* 56: of the operation's packed tensor; NULL: it has none */
  const dlc_library_packing *packing;
} dlc_library_instance; /* 64 bytes */

/* Products of segments of rows: a tensor of the operation is whole (kind 0),
 * has the segments' rows one after the other (1), or has a part for each
 * segment (2). */
typedef struct dlc_library_segments {
  int64_t rows;         /*  0: the dim that counts all rows */
  int64_t groups;       /*  8: the dim that counts segments */
  int64_t offsets;      /* 16: the tensor of their ends, i64[groups + 1] */
  const int64_t *kinds; /* 24: an entry a tensor */
} dlc_library_segments; /* 32 bytes */

/* The runtime's own. */
typedef struct dlc_library_loaded dlc_library_loaded;

/* An operation: one function of the library. */
typedef struct dlc_library_operation {
  const char *name;                      /*  0: "matmul_nt_f32" */
  const char *kind;                      /*  8: "matmul" */
  const char *text;                      /* 16: what it computes, in words */
  int64_t num_dims;                      /* 24 */
  const dlc_library_dim *dims;           /* 32 */
  int64_t num_tensors;                   /* 40 */
  const dlc_library_tensor *tensors;     /* 48: as the function takes them */
  int64_t num_instances;                 /* 56 */
  const dlc_library_instance *instances; /* 64: the first that fits is run */
  const dlc_library_segments *segments;  /* 72: NULL for most */
  int64_t packed; /* 80: the tensor that is taken in packed form; -1: none */
  /* 88: an entry an instance, the runtime's, for code that is loaded onto
   * devices; NULL for CPUs */
  dlc_library_loaded **loaded;
} dlc_library_operation; /* 96 bytes */

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DLC_LIBRARY_H */
