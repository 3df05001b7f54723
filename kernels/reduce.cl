// Reductions over height and width, or over channels, a tile at a time; the host runs stages
// until one value is left. One of the two kernels' names is defined at build.
//   REDUCE_TYPE  0 mean, 1 min, 2 max, 3 product, 4 sum

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
// Global size: (output width, output height, batch * channel blocks); each work-item reduces
// one tile of the input. `scale` is 1/(H*W) in the last stage of a mean, else 1.
__kernel void reduce_hw(GWS3 IN(input),
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
  DATA4 value = (DATA4)(START);
  for (int h = out_h * TILE; h < last_h; ++h) {
    for (int w = out_w * TILE; w < last_w; ++w) {
      value = COMBINE(value, READ4(input, block, w, batch * in_height + h));
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
