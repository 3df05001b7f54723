// Batch normalisation. Global size: (channel blocks, width, batch * height).
//   FOLDED_CONSTANT  mean and variance are folded into scale and offset

__kernel void batch_norm(GWS3 __read_only image2d_t input,
                         __read_only image2d_t scale,
                         __read_only image2d_t offset,
#ifndef FOLDED_CONSTANT
                         __read_only image2d_t mean,
                         __read_only image2d_t variance,
                         __private const float epsilon,
#endif
                         __private const int channels,
                         __private const float max_limit,
                         __private const float coefficient,
                         __write_only image2d_t output) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int x = block * gws1 + get_global_id(1);
  const int row = get_global_id(2);
  DATA4 factor = READ(scale, block, 0);
  DATA4 shift = READ(offset, block, 0);
#ifndef FOLDED_CONSTANT
  factor *= rsqrt(READ(variance, block, 0) + (DATA4)(epsilon));
  shift -= READ(mean, block, 0) * factor;
#endif
  const DATA4 value = mad(READ(input, x, row), factor, shift);
  WRITE(output, x, row,
        first_lanes(activate(value, max_limit, coefficient), channels - block * 4));
}
