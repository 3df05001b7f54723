// An activation on its own. Global size: (channel blocks, width, batch * height).
//   USE_PRELU  the slope of negative values comes per channel from an image

__kernel void activation(GWS3 __read_only image2d_t input,
#ifdef USE_PRELU
                         __read_only image2d_t alpha,
#endif
                         __private const float max_limit,
                         __private const float coefficient,
                         __write_only image2d_t output) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int x = block * gws1 + get_global_id(1);
  const int row = get_global_id(2);
  DATA4 value = READ(input, x, row);
#ifdef USE_PRELU
  value = fmax(value, (DATA4)(0)) + READ(alpha, block, 0) * fmin(value, (DATA4)(0));
#else
  value = activate(value, max_limit, coefficient);
#endif
  WRITE(output, x, row, value);
}
