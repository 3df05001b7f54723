// For kernels in buffer memory on GPUs. Arithmetic is in 32-bit floats; the channels of a pixel
// are a multiple of four, so that four of them are one aligned access.
//
//   HALF_STORAGE  tensors and constants are of 16-bit floats
//   BOUNDED       the activation is a pair of bounds, either of which may be infinite
//   BIAS          the kernel takes a value per channel to begin with
//   RESIDUAL      ... and a tensor to add before the activation

#ifdef HALF_STORAGE
#define FETCH4(pointer) vloada_half4(0, (pointer))
#define PUT4(value, pointer) vstorea_half4((value), 0, (pointer))
#else
#define FETCH4(pointer) (*(__global const float4 *)(pointer))
#define PUT4(value, pointer) (*(__global float4 *)(pointer) = (value))
#endif

#ifdef BIAS
#define GPU_BIAS __global const ELEMENT *restrict bias,
#define GPU_BIAS_AT(block) FETCH4(bias + (block) * 4)
#else
#define GPU_BIAS
#define GPU_BIAS_AT(block) (float4)(0)
#endif

#ifdef RESIDUAL
#define GPU_RESIDUAL IN(residual),
#define GPU_RESIDUAL_AT(pixel, block) FETCH4(residual + (pixel) * residual_stride + (block) * 4)
#else
#define GPU_RESIDUAL
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
