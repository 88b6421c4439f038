/* A program that uses a kernel library: y = gelu(x * w' + bias), then a softmax
 * of each row, and what the library says of itself. Build it with
 *
 *   dlc transformer-small.json -emit=kernel-library -o out
 *   cc -std=c99 -Iout/include main.c \
 *     out/lib/libtransformer_small.a -lm -lpthread
 */
#include "transformer_small.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, transformer_small_last_error());
  return 1;
}

int main(void) {
  const int64_t m = 3, n = 2048, k = 512;
  float *x = malloc((size_t)(m * k) * sizeof *x);
  float *w = malloc((size_t)(n * k) * sizeof *w);
  float *bias = malloc((size_t)n * sizeof *bias);
  float *y = malloc((size_t)(m * n) * sizeof *y);
  float *p = malloc((size_t)(m * n) * sizeof *p);
  int64_t i, j, l;
  double worst = 0, sum = 0;
  if (!x || !w || !bias || !y || !p)
    return 1;
  for (i = 0; i < m * k; ++i)
    x[i] = (float)(i % 7 - 3) / 4;
  for (i = 0; i < n * k; ++i)
    w[i] = (float)(i % 5 - 2) / 64;
  for (i = 0; i < n; ++i)
    bias[i] = (float)(i % 3) / 8;
  if (transformer_small_matmul_nt_bias_gelu_f32(m, n, k, x, w, bias, y))
    return fail("matmul");
  for (i = 0; i < m; ++i)
    for (j = 0; j < n; ++j) {
      double s = bias[j];
      for (l = 0; l < k; ++l)
        s += (double)x[i * k + l] * w[j * k + l];
      s = 0.5 * s * (1 + erf(s / sqrt(2.0)));
      worst = fmax(worst, fabs(s - y[i * n + j]));
    }
  if (transformer_small_softmax_f32(m, n, y, p))
    return fail("softmax");
  for (j = 0; j < n; ++j)
    sum += p[j];
  printf("worst error %s, sum of a row %.3f\n",
         worst < 1e-4 ? "small" : "LARGE", sum);

  /* A mistake is a status with a text. */
  if (transformer_small_softmax_f32(-1, n, y, p) == DLC_SHAPE_MISMATCH)
    printf("%s\n", transformer_small_last_error());

  /* Every operation, by name. */
  for (i = 0; i < transformer_small_num_operations(); ++i) {
    const dlc_library_operation *op = transformer_small_operation(i);
    printf("%s: %s (%d instances)\n", op->name, op->text,
           (int)op->num_instances);
  }
  free(x);
  free(w);
  free(bias);
  free(y);
  free(p);
  return 0;
}
