// Prepended to every program of this folder; what each build option means stands here.
//
//   DATA_TYPE, CMD_DATA_TYPE  type a kernel computes in, and the suffix of the image
//                             functions that go with it: float and f, or half and h
//   BIAS                      the kernel takes a bias image
//   USE_RELU, USE_RELUX, ...  activation fused into the kernel
//
// Tensors live in RGBA images, four channels to a pixel. An activation of shape NHWC is
// ceil(C/4)*W pixels wide and N*H high; pixel (block*W + w, n*H + h) holds channels
// 4*block .. 4*block+3. Lanes beyond C are zero in images made from buffers, and finite but
// otherwise undefined in images that kernels wrote: readers weigh them by zero or leave them
// out, writers whose arithmetic may end in infinities there call first_lanes.
//
// Global sizes are rounded up to multiples of the local size, so each kernel takes the exact
// sizes as its first arguments and leaves the surplus work-items idle.

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define DATA4 JOIN(DATA_TYPE, 4)
#define TO_DATA4 JOIN(convert_, DATA4)
#define READ(image, x, y) JOIN(read_image, CMD_DATA_TYPE)(image, (int2)((x), (y)))
#define WRITE(image, x, y, value) \
  JOIN(write_image, CMD_DATA_TYPE)(image, (int2)((x), (y)), (value))

#define GWS2 __private const int gws0, __private const int gws1,
#define GWS3 \
  __private const int gws0, __private const int gws1, __private const int gws2,
#define IDLE2 (get_global_id(0) >= gws0 || get_global_id(1) >= gws1)
#define IDLE3 (IDLE2 || get_global_id(2) >= gws2)

#ifdef BIAS
#define BIAS_IMAGE __read_only image2d_t bias,
#define BIAS_AT(block) READ(bias, (block), 0)
#else
#define BIAS_IMAGE
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
