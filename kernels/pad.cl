// Values added at the ends of the axes. Global size: (output blocks, output width, batch * output
// height).
//   PAD_TYPE          0 a constant, 1 reflection without the edge, 2 reflection with it
//   ACROSS_CHANNELS   the channels are padded as well

#if PAD_TYPE == 0
#define INSIDE(i, size) ((i) >= 0 && (i) < (size))
#define MIRRORED(i, size) (i)
#else
// With PAD_TYPE 2 the edge itself is repeated.
#define EDGE (PAD_TYPE - 1)
#define INSIDE(i, size) true
#define MIRRORED(i, size) \
  ((i) < 0 ? -(i) - EDGE : (i) >= (size) ? 2 * (size) - 2 - (i) + EDGE : (i))
#endif

#define LANE(four, lane) \
  ((lane) == 0 ? (four).x : (lane) == 1 ? (four).y : (lane) == 2 ? (four).z : (four).w)
#define TAKE(lane, number)                                        \
  {                                                               \
    const int at = block * 4 + number - pad_front;                \
    if (INSIDE(at, in_channels)) {                                \
      const int c = clamp(MIRRORED(at, in_channels), 0, in_channels - 1); \
      value.lane = LANE(READ4(input, c / 4, x, in_row), c % 4);   \
    }                                                             \
  }

__kernel void pad(GWS3 IN(input),
                  OUT(output),
                  __private const float constant_value,
                  __private const int in_batch,
                  __private const int in_height,
                  __private const int in_channels,
                  __private const int out_height,
                  __private const int pad_batch,
                  __private const int pad_top,
                  __private const int pad_left,
                  __private const int pad_front) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int n = row / out_height - pad_batch;
  const int h = row % out_height - pad_top;
  const int left = w - pad_left;

  DATA4 value = (DATA4)(constant_value);
  if (INSIDE(n, in_batch) && INSIDE(h, in_height) && INSIDE(left, input_width)) {
    const int in_row = MIRRORED(n, in_batch) * in_height + MIRRORED(h, in_height);
    const int x = MIRRORED(left, input_width);
#ifdef ACROSS_CHANNELS
    TAKE(x, 0)
    TAKE(y, 1)
    TAKE(z, 2)
    TAKE(w, 3)
#else
    value = READ4(input, block, x, in_row);
#endif
  }
  WRITE4(output, block, w, row, value);
}
