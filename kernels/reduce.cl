// Reductions: over height and width a tile at a time, in stages until one value is left; over
// channels; over any other axes. Exactly one of the kernels' names is defined at build.
//   REDUCE_TYPE   0 mean, 1 min, 2 max, 3 product, 4 sum
//   REDUCE_INPUT  what of the values: 1 their magnitude, 2 their square, 3 the square of their
//                 distance from a mean per image and channel

#define TILE 16

#if REDUCE_TYPE == 1
#define START MAXFLOAT
#define COMBINE(a, b) fmin(a, b)
#elif REDUCE_TYPE == 2
#define START (-MAXFLOAT)
#define COMBINE(a, b) fmax(a, b)
#elif REDUCE_TYPE == 3
#define START 1
#define COMBINE(a, b) ((a) * (b))
#else
#define START 0
#define COMBINE(a, b) ((a) + (b))
#endif

#ifdef reduce_hw
#if REDUCE_INPUT == 1
#define PREPARE(value) fabs(value)
#elif REDUCE_INPUT == 2
#define PREPARE(value) ((value) * (value))
#elif REDUCE_INPUT == 3
#define PREPARE(value) (((value) - center) * ((value) - center))
#else
#define PREPARE(value) (value)
#endif

// Global size: (output width, output height, batch * channel blocks); each work-item reduces
// one tile of the input. For a mean the scales of all stages make up 1/(H*W).
__kernel void reduce_hw(GWS3 IN(input),
#if REDUCE_INPUT == 3
                        IN(mean),
#endif
                        OUT(output),
                        __private const int in_height,
                        __private const int in_width,
                        __private const int blocks,
                        __private const float scale) {
  if (IDLE3) return;
  const int out_w = get_global_id(0);
  const int out_h = get_global_id(1);
  const int batch = get_global_id(2) / blocks;
  const int block = get_global_id(2) % blocks;
  const int last_h = min((out_h + 1) * TILE, in_height);
  const int last_w = min((out_w + 1) * TILE, in_width);
#if REDUCE_INPUT == 3
  const DATA4 center = READ4(mean, block, 0, batch);
#endif
  DATA4 value = (DATA4)(START);
  for (int h = out_h * TILE; h < last_h; ++h) {
    for (int w = out_w * TILE; w < last_w; ++w) {
      const DATA4 in = READ4(input, block, w, batch * in_height + h);
      value = COMBINE(value, PREPARE(in));
    }
  }
  WRITE4(output, block, out_w, batch * gws1 + out_h, value * (DATA4)(scale));
}
#endif

#ifdef reduce_c
// Global size: (1, width, batch * height).
__kernel void reduce_c(GWS3 IN(input),
                       OUT(output),
                       __private const int channels,
                       __private const float scale) {
  if (IDLE3) return;
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  DATA4 value = (DATA4)(START);
  int channel = 0;
  for (; channel + 4 <= channels; channel += 4) {
    value = COMBINE(value, READ4(input, channel / 4, w, row));
  }
  DATA_TYPE result =
      COMBINE(COMBINE(value.x, value.y), COMBINE(value.z, value.w));
  if (channel < channels) {
    const DATA4 rest = READ4(input, channel / 4, w, row);
    const int count = channels - channel;
    result = COMBINE(result, rest.x);
    if (count > 1) result = COMBINE(result, rest.y);
    if (count > 2) result = COMBINE(result, rest.z);
  }
  WRITE4(output, 0, w, row, (DATA4)(result * scale, 0, 0, 0));
}
#endif

#ifdef reduce_axes
// REDUCE_N, REDUCE_H, REDUCE_W: which axes. Global size: (channel blocks, output width, output
// batch * height).
#ifdef REDUCE_N
#define IMAGES 0, in_batch
#else
#define IMAGES row / out_height, 1
#endif
#ifdef REDUCE_H
#define ROWS 0, in_height
#else
#define ROWS row % out_height, 1
#endif
#ifdef REDUCE_W
#define COLUMNS 0, input_width
#else
#define COLUMNS get_global_id(1), 1
#endif
__kernel void reduce_axes(GWS3 IN(input),
                          OUT(output),
                          __private const int in_batch,
                          __private const int in_height,
                          __private const int out_height,
                          __private const float scale) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int row = get_global_id(2);
  // where to begin along an axis, and how many
  const int2 images = (int2)(IMAGES);
  const int2 rows = (int2)(ROWS);
  const int2 columns = (int2)(COLUMNS);
  DATA4 value = (DATA4)(START);
  for (int n = images.x; n < images.x + images.y; ++n) {
    for (int h = rows.x; h < rows.x + rows.y; ++h) {
      for (int w = columns.x; w < columns.x + columns.y; ++w) {
        const DATA4 in = READ4(input, block, w, n * in_height + h);
        value = COMBINE(value, in);
      }
    }
  }
  WRITE4(output, block, get_global_id(1), row, value * (DATA4)(scale));
}
#endif
