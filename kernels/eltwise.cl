// Arithmetic of two tensors, element by element.
// Global size: (channel blocks, width, batch * height).
//   ELTWISE_TYPE          0 sum, 1 sub, 2 prod, 3 div, 4 min, 5 max, 6 neg, 7 abs,
//                         8 squared difference, 9 pow, 11 floor of quotient, 12 clip
//   INPUT_SCALAR          the second operand is a number
//   INPUT_VECTOR          ... a value per channel
//   INPUT_BATCH_VECTOR    ... a value per image and channel: [N,1,1,C]
//   INPUT_TENSOR_BC_CHAN  ... a value per pixel: [N,H,W,1]
//   SWAPPED               the operands were exchanged
//   COEFF_SUM             sum with a factor each; for clip the two limits

__kernel void eltwise(GWS3 IN(input0),
#ifdef INPUT_SCALAR
                      __private const float scalar,
#else
                      IN(input1),
#endif
                      __private const int height,
                      __private const int width,
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

  const DATA4 first = READ4(input0, block, w, row);
#if defined(INPUT_SCALAR)
  const DATA4 second = (DATA4)(scalar);
#elif defined(INPUT_VECTOR)
  const DATA4 second = READ4(input1, block, 0, 0);
#elif defined(INPUT_BATCH_VECTOR)
  const DATA4 second = READ4(input1, block, 0, row / height);
#elif defined(INPUT_TENSOR_BC_CHAN)
  const DATA4 second = (DATA4)(READ4(input1, 0, w, row).x);
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
#endif
  WRITE4(output, block, w, row, first_lanes(value, channels - block * 4));
}
