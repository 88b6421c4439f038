/* Finds the weights of a model: embedded in the object, lent by the caller, or
 * mapped from the .weights file. A mapped file costs no memory of its own and
 * is shared by processes. The file's header repeats size and checksum of the
 * model's table, so that weights of another model are refused at once; reading
 * everything to verify it is the caller's choice. */
#include "Internal.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATH_SIZE 4096

static uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  return x ^ (x >> 32);
}

static uint64_t checksum_piece(uint64_t state, const unsigned char *data,
                               size_t size) {
  /* Four independent lanes keep the multiplier busy: about memory speed. */
  uint64_t lanes[4] = {state ^ size, rotate(state, 17) + 1,
                       rotate(state, 31) + 2, rotate(state, 47) + 3};
  const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
  size_t i = 0;
  for (; i + 32 <= size; i += 32) {
    for (int lane = 0; lane < 4; ++lane) {
      uint64_t word;
      memcpy(&word, data + i + 8 * lane, 8);
      lanes[lane] = rotate((lanes[lane] ^ word) * odd, 29);
    }
  }
  unsigned char tail[32] = {0};
  if (i < size)
    memcpy(tail, data + i, size - i);
  for (int lane = 0; lane < 4; ++lane) {
    uint64_t word;
    memcpy(&word, tail + 8 * lane, 8);
    lanes[lane] = mix(lanes[lane] ^ word);
  }
  return mix(lanes[0] + rotate(lanes[1], 13) + rotate(lanes[2], 26) +
             rotate(lanes[3], 39));
}

uint64_t dlc_weights_checksum(uint64_t state, const void *data, size_t size) {
  const unsigned char *bytes = data;
  do {
    size_t piece = size < DLC_WEIGHTS_PIECE ? size : DLC_WEIGHTS_PIECE;
    state = checksum_piece(state, bytes, piece);
    bytes += piece;
    size -= piece;
  } while (size);
  return state;
}

/*===-- Where the file is -------------------------------------------------===*/

typedef struct object_query {
  uintptr_t address;
  char *path;
  size_t size;
} object_query;

static int find_object(struct dl_phdr_info *info, size_t size, void *argument) {
  (void)size;
  object_query *query = argument;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD)
      continue;
    uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    if (query->address < start ||
        query->address - start >= info->dlpi_phdr[i].p_memsz)
      continue;
    const char *name = info->dlpi_name;
    if (name && *name) {
      snprintf(query->path, query->size, "%s", name);
    } else { /* the program itself has no name here */
      ssize_t n = readlink("/proc/self/exe", query->path, query->size - 1);
      query->path[n > 0 ? n : 0] = 0;
    }
    return 1;
  }
  return 0;
}

/* Folder of the shared object or program that contains `address`, with the
 * final slash. */
static void folder_of(const void *address, char *path, size_t size) {
  object_query query = {(uintptr_t)address, path, size};
  path[0] = 0;
  dl_iterate_phdr(find_object, &query);
  char *slash = strrchr(path, '/');
  if (slash)
    slash[1] = 0;
  else
    path[0] = 0;
}

/*===-- Opening -----------------------------------------------------------===*/

static dlc_status check_header(const dlc_model *model, const char *source,
                               const void *bytes, size_t size, bool verify,
                               dlc_rt_error error, dlc_rt_weights *out) {
  const dlc_weights_header *header = bytes;
  const char *name = model->info->name;
  if (size < sizeof *header ||
      memcmp(header->magic, DLC_WEIGHTS_MAGIC, sizeof header->magic) != 0)
    return dlc_rt_fail(error, DLC_BAD_WEIGHTS, "%s: not a weights file of dlc",
                       source);
  if (header->data_size != (uint64_t)model->weights_size ||
      header->checksum != model->weights_checksum)
    return dlc_rt_fail(error, DLC_BAD_WEIGHTS,
                       "%s: weights of another model: %llu bytes with checksum "
                       "%016llx, model '%s' needs %lld bytes with "
                       "checksum %016llx",
                       source, (unsigned long long)header->data_size,
                       (unsigned long long)header->checksum, name,
                       (long long)model->weights_size,
                       (unsigned long long)model->weights_checksum);
  if (header->data_offset % DLC_RT_ALIGNMENT || header->data_offset > size ||
      size - header->data_offset < header->data_size)
    return dlc_rt_fail(
        error, DLC_BAD_WEIGHTS, "%s: cut short: %llu bytes, needs %llu", source,
        (unsigned long long)size,
        (unsigned long long)(header->data_offset + header->data_size));
  out->data = (const char *)bytes + header->data_offset;
  if (verify) {
    uint64_t checksum = dlc_weights_checksum(0, out->data, header->data_size);
    if (checksum != model->weights_checksum)
      return dlc_rt_fail(error, DLC_BAD_WEIGHTS,
                         "%s: damaged: checksum is %016llx, should be %016llx",
                         source, (unsigned long long)checksum,
                         (unsigned long long)model->weights_checksum);
  }
  return DLC_OK;
}

static dlc_status map_file(const dlc_model *model, const char *path, int fd,
                           bool verify, dlc_rt_error error,
                           dlc_rt_weights *out) {
  off_t size = lseek(fd, 0, SEEK_END);
  void *bytes = size > 0
                    ? mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0)
                    : MAP_FAILED;
  const char *why = size > 0 ? strerror(errno) : "the file is empty";
  close(fd);
  if (bytes == MAP_FAILED)
    return dlc_rt_fail(error, DLC_BAD_WEIGHTS, "%s: cannot map: %s", path, why);
  out->mapping = bytes;
  out->mapping_size = (size_t)size;
  dlc_status status =
      check_header(model, path, bytes, (size_t)size, verify, error, out);
  if (status != DLC_OK)
    dlc_rt_close_weights(out);
  else
    madvise(bytes, (size_t)size, MADV_WILLNEED);
  return status;
}

static dlc_status open_file(const dlc_model *model, const char *explicit_path,
                            bool verify, dlc_rt_error error,
                            dlc_rt_weights *out) {
  char path[PATH_SIZE];
  if (explicit_path) {
    int fd = open(explicit_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
      return dlc_rt_fail(error, DLC_BAD_WEIGHTS,
                         "%s: cannot open weights of model '%s'", explicit_path,
                         model->info->name);
    return map_file(model, explicit_path, fd, verify, error, out);
  }
  folder_of((const void *)(uintptr_t)model->execute, path, sizeof path);
  size_t length = strlen(path);
  snprintf(path + length, sizeof path - length, "%s", model->weights_file);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0)
    return map_file(model, path, fd, verify, error, out);
  fd = open(model->weights_file, O_RDONLY | O_CLOEXEC);
  if (fd >= 0)
    return map_file(model, model->weights_file, fd, verify, error, out);
  return dlc_rt_fail(error, DLC_BAD_WEIGHTS,
                     "model '%s': no weights: neither '%s' nor '%s' in the "
                     "working folder can be opened; set weights_path",
                     model->info->name, path, model->weights_file);
}

/* Replaces mapped or embedded weights by a copy in huge pages. */
static dlc_status copy_to_huge_pages(const dlc_model *model, dlc_rt_error error,
                                     dlc_rt_weights *weights) {
  size_t size = (size_t)model->weights_size;
  size_t room = (size + ((size_t)2 << 20) - 1) & ~(((size_t)2 << 20) - 1);
  void *copy = dlc_rt_default_alloc(NULL, room, DLC_RT_ALIGNMENT);
  if (!copy)
    return dlc_rt_fail(
        error, DLC_OUT_OF_MEMORY,
        "model '%s': no memory for a copy of %llu bytes of weights",
        model->info->name, (unsigned long long)size);
  memcpy(copy, weights->data, size);
  dlc_rt_close_weights(weights);
  weights->data = copy;
  weights->mapping = copy;
  weights->mapping_size = room;
  return DLC_OK;
}

dlc_status dlc_rt_open_weights(const dlc_model *model,
                               const dlc_create_options *options,
                               dlc_rt_error error, dlc_rt_weights *out) {
  memset(out, 0, sizeof *out);
  if (model->weights_size == 0)
    return DLC_OK;
  bool verify = options->flags & DLC_CREATE_VERIFY_WEIGHTS;
  dlc_status status = DLC_OK;
  if (options->weights) {
    if ((uintptr_t)options->weights % DLC_RT_ALIGNMENT)
      return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                         "weights: address is not %d-byte aligned",
                         DLC_RT_ALIGNMENT);
    status = check_header(model, "weights given by pointer", options->weights,
                          options->weights_size, verify, error, out);
  } else if (model->weights && !options->weights_path) {
    out->data = model->weights;
  } else {
    status = open_file(model, options->weights_path, verify, error, out);
  }
  if (status == DLC_OK && (options->flags & DLC_CREATE_COPY_WEIGHTS)) {
    status = copy_to_huge_pages(model, error, out);
    if (status != DLC_OK)
      dlc_rt_close_weights(out);
  }
  return status;
}

void dlc_rt_close_weights(dlc_rt_weights *weights) {
  if (weights->mapping)
    munmap(weights->mapping, weights->mapping_size);
  memset(weights, 0, sizeof *weights);
}
