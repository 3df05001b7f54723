// Arithmetic of two tensors, element by element.
// Global size: (channel blocks, width, batch * height).
//   ELTWISE_TYPE          0 sum, 1 sub, 2 prod, 3 div, 4 min, 5 max, 6 neg, 7 abs,
//                         8 squared difference, 9 pow, 11 floor of quotient, 12 clip
//                         13 sign
//   INPUT_SCALAR          the second operand is a number
//   SWAPPED               ... and comes first
//   SPREAD0, SPREAD1      an operand has a single image, row, column or channel where the output
//                         has more: it comes with its height and, for batch, width and channels,
//                         1 if it has as many as the output and 0 if only one
//   COEFF_SUM             sum with a factor each; for clip the two limits

#define SPREAD(name)                    \
  __private const int name##_height,    \
  __private const int name##_images,    \
  __private const int name##_columns,   \
  __private const int name##_channels,
#define READ_SPREAD(value, name)                                                          \
  DATA4 value = READ4(name, block * name##_channels, w * name##_columns,                  \
                      row / height * name##_images * name##_height +                      \
                          (name##_height > 1 ? row % height : 0));                        \
  if (!name##_channels) value = (DATA4)(value.x);

__kernel void eltwise(GWS3 IN(input0),
#ifdef SPREAD0
                      SPREAD(input0)
#endif
#ifdef INPUT_SCALAR
                      __private const float scalar,
#else
                      IN(input1),
#endif
#ifdef SPREAD1
                      SPREAD(input1)
#endif
                      __private const int height,
                      __private const int channels,
#ifdef COEFF_SUM
                      __private const float coeff0,
                      __private const float coeff1,
#endif
                      OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);

#ifdef SPREAD0
  READ_SPREAD(first, input0)
#else
  const DATA4 first = READ4(input0, block, w, row);
#endif
#if defined(INPUT_SCALAR)
  const DATA4 second = (DATA4)(scalar);
#elif defined(SPREAD1)
  READ_SPREAD(second, input1)
#else
  const DATA4 second = READ4(input1, block, w, row);
#endif
#ifdef SWAPPED
  const DATA4 a = second;
  const DATA4 b = first;
#else
  const DATA4 a = first;
  const DATA4 b = second;
#endif

#if ELTWISE_TYPE == 0 && defined(COEFF_SUM)
  const DATA4 value = a * (DATA4)(coeff0) + b * (DATA4)(coeff1);
#elif ELTWISE_TYPE == 0
  const DATA4 value = a + b;
#elif ELTWISE_TYPE == 1
  const DATA4 value = a - b;
#elif ELTWISE_TYPE == 2
  const DATA4 value = a * b;
#elif ELTWISE_TYPE == 3
  const DATA4 value = a / b;
#elif ELTWISE_TYPE == 4
  const DATA4 value = fmin(a, b);
#elif ELTWISE_TYPE == 5
  const DATA4 value = fmax(a, b);
#elif ELTWISE_TYPE == 6
  const DATA4 value = -first;
#elif ELTWISE_TYPE == 7
  const DATA4 value = fabs(first);
#elif ELTWISE_TYPE == 8
  const DATA4 value = (a - b) * (a - b);
#elif ELTWISE_TYPE == 9
  const DATA4 value = pow(a, b);
#elif ELTWISE_TYPE == 11
  const DATA4 value = floor(a / b);
#elif ELTWISE_TYPE == 12
  const DATA4 value = clamp(first, (DATA4)(coeff0), (DATA4)(coeff1));
#elif ELTWISE_TYPE == 13
  const DATA4 value = sign(first);
#endif
  WRITE4(output, block, w, row, first_lanes(value, channels - block * 4));
}
