// Another height and width. Global size: (channel blocks, output width, batch * output height).
// Exactly one of the kernels' names is defined when the program is built.
//   CT_MODE       where output pixel i lies in the input, in pixels: 0 i * scale;
//                 1 (i + 0.5) * scale - 0.5; 2 the same, but 0 where the output has one pixel
//   NEAREST_MODE  0 round down; 1 round to nearest, halves down; 2 halves up

#if CT_MODE == 0
#define COORDINATE(i, scale, size) ((i) * (scale))
#elif CT_MODE == 1
#define COORDINATE(i, scale, size) (((i) + 0.5f) * (scale) - 0.5f)
#else
#define COORDINATE(i, scale, size) ((size) > 1 ? ((i) + 0.5f) * (scale) - 0.5f : 0.0f)
#endif

#define POSITION                               \
  if (IDLE3) return;                           \
  const int block = get_global_id(0);          \
  const int w = get_global_id(1);              \
  const int row = get_global_id(2);            \
  const int top = row / out_height * in_height; \
  const int h = row % out_height;

#ifdef resize_bilinear
__kernel void resize_bilinear(GWS3 IN(input),
                              OUT(output),
                              __private const float height_scale,
                              __private const float width_scale,
                              __private const int in_height,
                              __private const int out_height) {
  POSITION
  const float y = COORDINATE(h, height_scale, out_height);
  const float x = COORDINATE(w, width_scale, output_width);
  const int y0 = clamp((int)floor(y), 0, in_height - 1);
  const int y1 = clamp((int)ceil(y), 0, in_height - 1);
  const int x0 = clamp((int)floor(x), 0, input_width - 1);
  const int x1 = clamp((int)ceil(x), 0, input_width - 1);
  const DATA4 part_y = (DATA4)(y - floor(y));
  const DATA4 part_x = (DATA4)(x - floor(x));
  const DATA4 top_left = READ4(input, block, x0, top + y0);
  const DATA4 top_right = READ4(input, block, x1, top + y0);
  const DATA4 low_left = READ4(input, block, x0, top + y1);
  const DATA4 low_right = READ4(input, block, x1, top + y1);
  const DATA4 high = mad(top_right - top_left, part_x, top_left);
  const DATA4 low = mad(low_right - low_left, part_x, low_left);
  WRITE4(output, block, w, row, mad(low - high, part_y, high));
}
#endif

#ifdef resize_nearest_neighbor
#if NEAREST_MODE == 0
#define NEAREST(x) ((int)floor(x))
#elif NEAREST_MODE == 1
#define NEAREST(x) ((int)ceil((x) - 0.5f))
#else
#define NEAREST(x) ((int)floor((x) + 0.5f))
#endif
// Here a shifted coordinate is half a pixel further: (i + 0.5) * scale.
#if CT_MODE == 0
#define PLACE(i, scale) NEAREST((i) * (scale))
#else
#define PLACE(i, scale) NEAREST(((i) + 0.5f) * (scale))
#endif
__kernel void resize_nearest_neighbor(GWS3 IN(input),
                                      OUT(output),
                                      __private const float height_scale,
                                      __private const float width_scale,
                                      __private const int in_height,
                                      __private const int out_height) {
  POSITION
  const int y = clamp(PLACE(h, height_scale), 0, in_height - 1);
  const int x = clamp(PLACE(w, width_scale), 0, input_width - 1);
  WRITE4(output, block, w, row, READ4(input, block, x, top + y));
}
#endif

#ifdef resize_bicubic
// Cubic convolution over four pixels each way. Fractions of a pixel are rounded to 1/1024.
#if CT_MODE == 1
#define SHARPNESS (-0.5f)
#else
#define SHARPNESS (-0.75f)
#endif

// The four weights around a pixel; with CT_MODE 1 pixels beyond the edge have none.
inline float4 cubic_weights(float coordinate, int size) {
  const float first = floor(coordinate);
  const float t = rint((coordinate - first) * 1024) / 1024;
  const float4 x = (float4)(1 + t, t, 1 - t, 2 - t);
  const float4 near = ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1;
  const float4 far = ((SHARPNESS * x - 5 * SHARPNESS) * x + 8 * SHARPNESS) * x - 4 * SHARPNESS;
  float4 weights = (float4)(far.x, near.y, near.z, far.w);
#if CT_MODE == 1
  const int at = (int)first;
  if (at < 1 || at - 1 >= size) weights.x = 0;
  if (at < 0 || at >= size) weights.y = 0;
  if (at < -1 || at + 1 >= size) weights.z = 0;
  if (at < -2 || at + 2 >= size) weights.w = 0;
  const float sum = weights.x + weights.y + weights.z + weights.w;
  if (fabs(sum) >= 1000 * FLT_MIN) weights /= sum;
#endif
  return weights;
}

#define ROW_AT(line)                                                            \
  (READ4(input, block, x0, top + (line)) * (DATA4)(across.x) +                     \
   READ4(input, block, x1, top + (line)) * (DATA4)(across.y) +                     \
   READ4(input, block, x2, top + (line)) * (DATA4)(across.z) +                     \
   READ4(input, block, x3, top + (line)) * (DATA4)(across.w))

__kernel void resize_bicubic(GWS3 IN(input),
                             OUT(output),
                             __private const float height_scale,
                             __private const float width_scale,
                             __private const int in_height,
                             __private const int out_height) {
  POSITION
  const float y = COORDINATE(h, height_scale, out_height);
  const float x = COORDINATE(w, width_scale, output_width);
  const float4 across = cubic_weights(x, input_width);
  const float4 down = cubic_weights(y, in_height);
  const int left = (int)floor(x);
  const int first = (int)floor(y);
  const int x0 = clamp(left - 1, 0, input_width - 1);
  const int x1 = clamp(left, 0, input_width - 1);
  const int x2 = clamp(left + 1, 0, input_width - 1);
  const int x3 = clamp(left + 2, 0, input_width - 1);
  DATA4 value = ROW_AT(clamp(first - 1, 0, in_height - 1)) * (DATA4)(down.x);
  value += ROW_AT(clamp(first, 0, in_height - 1)) * (DATA4)(down.y);
  value += ROW_AT(clamp(first + 1, 0, in_height - 1)) * (DATA4)(down.z);
  value += ROW_AT(clamp(first + 2, 0, in_height - 1)) * (DATA4)(down.w);
  WRITE4(output, block, w, row, value);
}
#endif
