// Batch normalisation. Global size: (channel blocks, width, batch * height).
//   FOLDED_CONSTANT  mean and variance are folded into scale and offset

__kernel void batch_norm(GWS3 IN(input),
                         WEIGHTS(scale),
                         WEIGHTS(offset),
#ifndef FOLDED_CONSTANT
                         WEIGHTS(mean),
                         WEIGHTS(variance),
                         __private const float epsilon,
#endif
                         __private const int channels,
                         __private const float max_limit,
                         __private const float coefficient,
                         OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  DATA4 factor = READ_WEIGHTS(scale, block, 0);
  DATA4 shift = READ_WEIGHTS(offset, block, 0);
#ifndef FOLDED_CONSTANT
  factor *= rsqrt(READ_WEIGHTS(variance, block, 0) + (DATA4)(epsilon));
  shift -= READ_WEIGHTS(mean, block, 0) * factor;
#endif
  const DATA4 value = mad(READ4(input, block, w, row), factor, shift);
  WRITE4(output, block, w, row,
         first_lanes(activate(value, max_limit, coefficient), channels - block * 4));
}
