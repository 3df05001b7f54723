// Prepended to every program of this folder; what each build option means stands here.
//
//   DATA_TYPE, CMD_DATA_TYPE  type a kernel computes in, and the suffix of the image
//                             functions that go with it: float and f, or half and h
//   BUFFER_MEMORY             tensors lie in buffers, not in images
//   HALF_STORAGE              ... of 16-bit floats (an image knows its own type)
//   OUT_OF_RANGE_CHECK        kernels of images take a flag before all else, and leave there
//                             a pixel that they wrote beside the image
//   BIAS                      the kernel takes a value per channel to begin with
//   USE_RELU, USE_RELUX, ...  activation fused into the kernel
//
// Activations have the shape NHWC. The macros IN and OUT declare one among a kernel's
// parameters; READ4 and WRITE4 reach channels 4*block .. 4*block+3 of pixel w of row
// n*H + h. In an RGBA image that is pixel (block*W + w, n*H + h). In a buffer the pixels lie
// one after another, each `stride` elements long: C rounded up to what suits the device.
// Lanes beyond C are zero in tensors made by the host's upload, and finite but otherwise
// undefined in those that kernels wrote: readers weigh them by zero or leave them out, writers
// whose arithmetic may end in infinities there call first_lanes.
//
// Constants are WEIGHTS: a table of pixels with four values each, as wide as the image it
// would be, reached by READ_WEIGHTS.
//
// Global sizes are rounded up to multiples of the local size, so each kernel takes the exact
// sizes as its first arguments and leaves the surplus work-items idle.

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define DATA4 JOIN(DATA_TYPE, 4)
#define TO_DATA4 JOIN(convert_, DATA4)

#ifdef BUFFER_MEMORY
#ifdef HALF_STORAGE
#define ELEMENT half
#define LOAD4(pointer) vload_half4(0, (pointer))
#define STORE4(value, pointer) vstore_half4((value), 0, (pointer))
#else
#define ELEMENT DATA_TYPE
#define LOAD4(pointer) vload4(0, (pointer))
#define STORE4(value, pointer) vstore4((value), 0, (pointer))
#endif
#define TENSOR_(qualifier, name)              \
  __global qualifier ELEMENT *restrict name, \
  __private const int name##_width,           \
  __private const int name##_stride
#define IN(name) TENSOR_(const, name)
#define OUT(name) TENSOR_(, name)
#define PIXEL_(name, w, row) ((name) + ((row) * name##_width + (w)) * name##_stride)
#define READ4(name, block, w, row) LOAD4(PIXEL_(name, w, row) + (block) * 4)
#define WRITE4(name, block, w, row, value) \
  STORE4((value), PIXEL_(name, w, row) + (block) * 4)

#define WEIGHTS(name) \
  __global const ELEMENT *restrict name, __private const int name##_width
#define WRITABLE_WEIGHTS(name) \
  __global ELEMENT *restrict name, __private const int name##_width
#define READ_WEIGHTS(name, x, y) LOAD4((name) + ((y) * name##_width + (x)) * 4)
#define WRITE_WEIGHTS(name, x, y, value) \
  STORE4((value), (name) + ((y) * name##_width + (x)) * 4)
#else
#define READ_IMAGE JOIN(read_image, CMD_DATA_TYPE)
#define WRITE_IMAGE JOIN(write_image, CMD_DATA_TYPE)
#define IN(name) __read_only image2d_t name, __private const int name##_width
#define OUT(name) __write_only image2d_t name, __private const int name##_width
#define READ4(name, block, w, row) \
  READ_IMAGE(name, (int2)((block) * name##_width + (w), (row)))
#define WRITE4(name, block, w, row, value) \
  WRITE_PIXEL(name, (block) * name##_width + (w), (row), (value))

#define WEIGHTS(name) __read_only image2d_t name
#define WRITABLE_WEIGHTS(name) __write_only image2d_t name
#define READ_WEIGHTS(name, x, y) READ_IMAGE(name, (int2)((x), (y)))
#define WRITE_WEIGHTS(name, x, y, value) WRITE_PIXEL(name, (x), (y), (value))
#endif

#ifdef OUT_OF_RANGE_CHECK
#define RANGE_FLAG __global int *out_of_range,
#define WRITE_PIXEL(image, column, line, value)                                   \
  do {                                                                            \
    const int2 place_ = (int2)((column), (line));                                 \
    const int2 size_ = (int2)(get_image_width(image), get_image_height(image));   \
    if (any(place_ < 0) || any(place_ >= size_))                                  \
      *out_of_range = max(place_.x * 1000000 + place_.y, 1);                      \
    else                                                                          \
      WRITE_IMAGE(image, place_, (value));                                        \
  } while (0)
#else
#define RANGE_FLAG
#define WRITE_PIXEL(image, column, line, value) \
  WRITE_IMAGE(image, (int2)((column), (line)), (value))
#endif

#define GWS2 RANGE_FLAG __private const int gws0, __private const int gws1,
#define GWS3                                                     \
  RANGE_FLAG __private const int gws0, __private const int gws1, \
      __private const int gws2,
#define IDLE2 (get_global_id(0) >= gws0 || get_global_id(1) >= gws1)
#define IDLE3 (IDLE2 || get_global_id(2) >= gws2)

#ifdef BIAS
#define BIAS_ARGUMENT WEIGHTS(bias),
#define BIAS_AT(block) READ_WEIGHTS(bias, (block), 0)
#else
#define BIAS_ARGUMENT
#define BIAS_AT(block) (DATA4)(0)
#endif

// out += rows . in, with one column of weights for each of the four input channels.
#define MULTIPLY_ADD(out, in, w0, w1, w2, w3) \
  out = mad((DATA4)((in).x), w0, out);        \
  out = mad((DATA4)((in).y), w1, out);        \
  out = mad((DATA4)((in).z), w2, out);        \
  out = mad((DATA4)((in).w), w3, out);

// `value` with zeros from lane `count` on.
inline DATA4 first_lanes(DATA4 value, int count) {
  if (count < 4) value.w = 0;
  if (count < 3) value.z = 0;
  if (count < 2) value.y = 0;
  return value;
}

inline DATA4 activate(DATA4 x, float max_limit, float coefficient) {
#if defined(USE_RELU)
  x = fmax(x, (DATA4)(0));
#elif defined(USE_RELUX)
  x = clamp(x, (DATA4)(0), (DATA4)(max_limit));
#elif defined(USE_TANH)
  x = tanh(x);
#elif defined(USE_SIGMOID)
  x = (DATA4)(1) / ((DATA4)(1) + exp(-x));
#elif defined(USE_LEAKYRELU)
  x = fmax(x, (DATA4)(0)) + (DATA4)(coefficient) * fmin(x, (DATA4)(0));
#elif defined(USE_ELU)
  x = fmax(x, (DATA4)(0)) +
      (DATA4)(coefficient) * (exp(fmin(x, (DATA4)(0))) - (DATA4)(1));
#elif defined(USE_HARDSIGMOID)
  // max_limit and coefficient carry the slope and the offset here.
  x = clamp((DATA4)(max_limit) * x + (DATA4)(coefficient), (DATA4)(0), (DATA4)(1));
#endif
  return x;
}
