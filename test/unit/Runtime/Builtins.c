/* The runtime's float conversions under names that do not collide with the
 * compiler's own, in terms of bits. */
#define __truncsfhf2 dlc_test_truncsfhf2
#define __truncdfhf2 dlc_test_truncdfhf2
#define __truncsfbf2 dlc_test_truncsfbf2
#define __truncdfbf2 dlc_test_truncdfbf2
#define __extendhfsf2 dlc_test_extendhfsf2
#define __extendhfdf2 dlc_test_extendhfdf2
#include "../../../lib/Runtime/Builtins.c"

uint16_t float_to_half(float x) { return half_bits(__truncsfhf2(x)); }
uint16_t double_to_half(double x) { return half_bits(__truncdfhf2(x)); }
float half_to_float(uint16_t x) { return __extendhfsf2(half_from(x)); }
double half_to_double(uint16_t x) { return __extendhfdf2(half_from(x)); }
uint16_t float_to_bfloat(float x) {
  __bf16 y = __truncsfbf2(x);
  uint16_t bits;
  memcpy(&bits, &y, sizeof bits);
  return bits;
}
uint16_t double_to_bfloat(double x) {
  __bf16 y = __truncdfbf2(x);
  uint16_t bits;
  memcpy(&bits, &y, sizeof bits);
  return bits;
}
