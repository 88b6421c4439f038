/* Where the time of a model's runs goes, by sampling: nothing is added to the
 * artifact, its symbol table is enough. */
#ifndef DLC_TOOLS_DLC_EXEC_PROFILE_H
#define DLC_TOOLS_DLC_EXEC_PROFILE_H

#include <stddef.h>

/* Starts samples of this process, one a millisecond of CPU time. */
int profile_start(void);
void profile_stop(void);

/* Prints `<samples> <kernel>` lines, the most first, of the samples in `model`
 * (a path as it was loaded); `prefix` is the model's C name. Samples elsewhere
 * count as `(runtime)`. `error` gets a text on failure; then 0 is returned. */
int profile_print(const char *model, const char *prefix, char *error,
                  size_t error_size);

#endif
