// For kernels in buffer memory on GPUs. Arithmetic is in 32-bit floats; the channels of a pixel
// are a multiple of four, so that four of them are one aligned access.
//
//   HALF_STORAGE  tensors and constants are of 16-bit floats
//   BOUNDED       the activation is a pair of bounds, either of which may be infinite
//   RESIDUAL      the kernel takes a tensor to add before the activation
//   ONE_MEMORY    all tensors lie in one memory object
//
// A driver looks at every argument each time a kernel is enqueued, and at batch 1 that takes as
// long as the kernel. So all scalars come as one structure `s`, global sizes first; a bias lies
// behind the filter; and tensors lie at offsets, in elements, in as few objects as may be.

#ifdef HALF_STORAGE
#define FETCH4(pointer) vloada_half4(0, (pointer))
#define PUT4(value, pointer) vstorea_half4((value), 0, (pointer))
#else
#define FETCH4(pointer) (*(__global const float4 *)(pointer))
#define PUT4(value, pointer) (*(__global float4 *)(pointer) = (value))
#endif

#ifdef ONE_MEMORY
#define GPU_MEMORY __global ELEMENT *memory,
#define GPU_OBJECT(qualifier, name)
#define GPU_START(name) (memory + s.name##_offset)
#else
#define GPU_MEMORY
#define GPU_OBJECT(qualifier, name) __global qualifier ELEMENT *restrict name##_memory,
#define GPU_START(name) (name##_memory + s.name##_offset)
#endif
#define GPU_TENSOR(name) int name##_offset, name##_width, name##_stride;

#ifdef RESIDUAL
#define GPU_RESIDUAL_OBJECT GPU_OBJECT(const, residual)
#define GPU_RESIDUAL_TENSOR GPU_TENSOR(residual)
#define GPU_RESIDUAL_AT(pixel, block) \
  FETCH4(GPU_START(residual) + (pixel) * s.residual_stride + (block) * 4)
#else
#define GPU_RESIDUAL_OBJECT
#define GPU_RESIDUAL_TENSOR
#define GPU_RESIDUAL_AT(pixel, block) (float4)(0)
#endif

#define UNROLLED _Pragma("unroll")

// For loops of unknown length: the loads of four rounds are under way at once. PoCL's compiler
// takes it for an error that it cannot do as told.
#ifdef cl_nv_pragma_unroll
#define IN_FOURS _Pragma("unroll 4")
#else
#define IN_FOURS
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
