// For kernels in buffer memory on GPUs. Arithmetic is in 32-bit floats; the channels of a pixel
// are a multiple of four, so that four of them are one aligned access.
//
//   HALF_STORAGE  tensors and constants are of 16-bit floats
//   BOUNDED       the activation is a pair of bounds, either of which may be infinite
//   RESIDUAL      the kernel takes a tensor to add before the activation
//
// All scalars of a kernel come as one structure, global sizes first: a driver looks at every
// argument each time a kernel is enqueued, and at batch 1 that takes as long as the kernel.
// For the same reason a bias lies behind the filter, in the same buffer.

#ifdef HALF_STORAGE
#define FETCH4(pointer) vloada_half4(0, (pointer))
#define PUT4(value, pointer) vstorea_half4((value), 0, (pointer))
#else
#define FETCH4(pointer) (*(__global const float4 *)(pointer))
#define PUT4(value, pointer) (*(__global float4 *)(pointer) = (value))
#endif

#ifdef RESIDUAL
#define GPU_RESIDUAL __global const ELEMENT *restrict residual,
#define GPU_RESIDUAL_SIZES int residual_width, residual_stride;
#define GPU_RESIDUAL_AT(pixel, block) \
  FETCH4(residual + (pixel) * s.residual_stride + (block) * 4)
#else
#define GPU_RESIDUAL
#define GPU_RESIDUAL_SIZES
#define GPU_RESIDUAL_AT(pixel, block) (float4)(0)
#endif

#define UNROLLED _Pragma("unroll")

// Loops of unknown length: two rounds' loads are under way at once. PoCL's compiler takes it for
// an error that it cannot do as told.
#ifdef cl_nv_pragma_unroll
#define UNROLLED_TWICE _Pragma("unroll 2")
#else
#define UNROLLED_TWICE
#endif

// Comparisons that NaN fails, so that it stays NaN.
inline float4 finish(float4 x, float first, float second) {
#ifdef BOUNDED
  x = x < (float4)(first) ? (float4)(first) : x;
  return x > (float4)(second) ? (float4)(second) : x;
#else
  return activate(x, first, second);
#endif
}
