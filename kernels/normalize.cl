// Normalisation over pixels, or over pixels and groups of channels: the host computes moments of
// each channel with reduce.cl first. Exactly one of the kernels' names is defined at build.

#define LANE(four, lane) \
  ((lane) == 0 ? (four).x : (lane) == 1 ? (four).y : (lane) == 2 ? (four).z : (four).w)

#ifdef group_mean
// Each channel's value becomes `scale` times the sum over its group of `size` channels.
// Global size: (channel blocks, batch).
#define GROUP_SUM(lane, number)                                     \
  {                                                                 \
    const int first = min(block * 4 + number, channels - 1) / size * size; \
    DATA_TYPE sum = 0;                                              \
    for (int c = first; c < first + size; ++c) {                    \
      const DATA4 four = READ4(input, c / 4, 0, n);                 \
      sum += LANE(four, c % 4);                                     \
    }                                                               \
    value.lane = sum;                                               \
  }

__kernel void group_mean(GWS2 IN(input),
                         OUT(output),
                         __private const int channels,
                         __private const int size,
                         __private const float scale) {
  if (IDLE2) return;
  const int block = get_global_id(0);
  const int n = get_global_id(1);
  DATA4 value;
  GROUP_SUM(x, 0)
  GROUP_SUM(y, 1)
  GROUP_SUM(z, 2)
  GROUP_SUM(w, 3)
  WRITE4(output, block, 0, n, value * (DATA4)(scale));
}
#endif

#ifdef normalize_pixels
// Global size: (channel blocks, width, batch * height).
//   CENTER        take the mean off
//   POWER         divide by the spread: 1 it is as it stands, 2 its square root
//   EPSILON_LAST  epsilon is added after the root
//   AFFINE        a factor and an offset per channel
__kernel void normalize_pixels(GWS3 IN(input),
#ifdef CENTER
                               IN(mean),
#endif
#ifdef POWER
                               IN(spread),
                               __private const float epsilon,
#endif
#ifdef AFFINE
                               WEIGHTS(scale),
                               WEIGHTS(offset),
#endif
                               __private const int height,
                               __private const int channels,
                               __private const float max_limit,
                               __private const float coefficient,
                               OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int n = row / height;
  DATA4 value = READ4(input, block, w, row);
#ifdef CENTER
  value -= READ4(mean, block, 0, n);
#endif
#ifdef POWER
  DATA4 divisor = READ4(spread, block, 0, n);
#ifndef EPSILON_LAST
  divisor += (DATA4)(epsilon);
#endif
#if POWER == 2
  divisor = sqrt(divisor);
#endif
#ifdef EPSILON_LAST
  divisor += (DATA4)(epsilon);
#endif
  value /= divisor;
#endif
#ifdef AFFINE
  value = mad(value, READ_WEIGHTS(scale, block, 0), READ_WEIGHTS(offset, block, 0));
#endif
  WRITE4(output, block, w, row,
         first_lanes(activate(value, max_limit, coefficient), channels - block * 4));
}
#endif
