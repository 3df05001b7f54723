// An activation on its own. Global size: (channel blocks, width, batch * height).
//   USE_PRELU  the slope of negative values comes per channel from an image

__kernel void activation(GWS3 IN(input),
#ifdef USE_PRELU
                         WEIGHTS(alpha),
#endif
                         __private const float max_limit,
                         __private const float coefficient,
                         OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  DATA4 value = READ4(input, block, w, row);
#ifdef USE_PRELU
  value = fmax(value, (DATA4)(0)) + READ_WEIGHTS(alpha, block, 0) * fmin(value, (DATA4)(0));
#else
  value = activate(value, max_limit, coefficient);
#endif
  WRITE4(output, block, w, row, value);
}
