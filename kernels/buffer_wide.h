// For kernels in buffer memory on devices whose work-items are vectors themselves: CPUs. The
// channels of a pixel are rounded up to a multiple of 16, or to 4 if there are no more, and
// arithmetic is in 32-bit floats.
//
//   HALF_STORAGE  tensors and constants are of 16-bit floats
//   BOUNDED       the activation is a pair of bounds, either of which may be infinite
//   BIAS          the kernel takes a value per channel to begin with
//   RESIDUAL      a tensor like the output is added before the activation

#ifdef HALF_STORAGE
#define LOAD(pointer) vload_half(0, (pointer))
#define LOAD16(pointer) vload_half16(0, (pointer))
#define STORE16(value, pointer) vstore_half16((value), 0, (pointer))
#else
#define LOAD(pointer) (*(pointer))
#define LOAD16(pointer) vload16(0, (pointer))
#define STORE16(value, pointer) vstore16((value), 0, (pointer))
#endif

#define UNROLL(count) __attribute__((opencl_unroll_hint(count)))

#ifdef BIAS
#define WIDE_BIAS __global const ELEMENT *restrict bias,
#define WIDE_BIAS_AT(channel) LOAD16(bias + (channel))
#else
#define WIDE_BIAS
#define WIDE_BIAS_AT(channel) (float16)(0)
#endif

#ifdef RESIDUAL
#define RESIDUAL_ARGUMENT __global const ELEMENT *restrict residual,
#define ADD_RESIDUAL(load, index) + load(residual + (index))
#else
#define RESIDUAL_ARGUMENT
#define ADD_RESIDUAL(load, index)
#endif

// Comparisons that NaN fails, so that it stays NaN; each is one instruction.
inline float16 between(float16 x, float lower, float upper) {
  x = x < (float16)(lower) ? (float16)(lower) : x;
  return x > (float16)(upper) ? (float16)(upper) : x;
}

inline float16 activate16(float16 x, float first, float second) {
#ifdef BOUNDED
  return between(x, first, second);
#else
  return (float16)(activate(x.s0123, first, second), activate(x.s4567, first, second),
                   activate(x.s89ab, first, second), activate(x.scdef, first, second));
#endif
}
