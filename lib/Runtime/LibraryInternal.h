/* What the files of kernel libraries share. Names start with dlc_library_, and
 * all are hidden. */
#ifndef DLC_LIB_RUNTIME_LIBRARYINTERNAL_H
#define DLC_LIB_RUNTIME_LIBRARYINTERNAL_H

#include "Internal.h"

#include "dlc/library.h"

/* Where the text of this thread's error goes, and the text. */
dlc_rt_error dlc_library_error(void);
const char *dlc_library_last_error(void);

/* Whether this machine has the instruction sets. */
bool dlc_library_is_here(dlc_library_cpu *cpu);
/* Whether an instance is for these sizes. */
bool dlc_library_takes(const dlc_library_operation *op,
                       const dlc_library_instance *instance,
                       const int64_t *dims);
/* "m = 3, n = 4096" */
const char *dlc_library_spell_dims(const dlc_library_operation *op,
                                   const int64_t *dims, char *text,
                                   size_t size);
/* The error of sizes that no instance takes on this machine. */
dlc_status dlc_library_no_instance(const dlc_library_operation *op,
                                   const int64_t *dims);

/* An extent for these sizes; -1: more than a number can tell. */
int64_t dlc_library_evaluate(const dlc_library_extent *extent,
                             const int64_t *dims);
/* Elements from axis `from` on; -1: more than an address can tell. */
int64_t dlc_library_count(const dlc_library_tensor *tensor, const int64_t *dims,
                          int64_t from);

/* Sizes that are not negative, tensors that are not NULL and aligned to their
 * elements. */
dlc_status dlc_library_check_call(const dlc_library_operation *op,
                                  const int64_t *dims, void *const *tensors);
/* Ends of segments: from 0 to the rows, none before the one in front of it. */
dlc_status dlc_library_check_segments(const dlc_library_operation *op,
                                      const int64_t *dims,
                                      const int64_t *offsets);

int64_t dlc_library_packed_size(const dlc_library_operation *op,
                                int64_t instance, const int64_t *dims);
/* Bytes from the packed matrix of a segment to the next one's. */
int64_t dlc_library_packed_step(const dlc_library_packing *packing);
/* The packing of the most general instance for the sizes that are not -1, on
 * the best CPU that has one, or of the wanted one. Fails where there is none,
 * and for a matrix or room that cannot be used. */
dlc_status dlc_library_choose_packing(const dlc_library_operation *op,
                                      int64_t wanted, const int64_t *dims,
                                      const void *matrix, const void *packed,
                                      const dlc_library_packing **packing);

#endif /* DLC_LIB_RUNTIME_LIBRARYINTERNAL_H */
