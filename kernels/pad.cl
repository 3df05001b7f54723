// Padding of height and width. Global size: (channel blocks, output width, batch * output
// height).
//   PAD_TYPE  0 a constant, 1 reflection without the edge, 2 reflection with it

__kernel void pad(GWS3 IN(input),
                  OUT(output),
                  __private const float constant_value,
                  __private const int in_height,
                  __private const int in_width,
                  __private const int out_height,
                  __private const int pad_top,
                  __private const int pad_left) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int batch = row / out_height;
  int x = w - pad_left;
  int y = row % out_height - pad_top;
#if PAD_TYPE == 0
  const bool inside = x >= 0 && x < in_width && y >= 0 && y < in_height;
  const DATA4 value = inside
                          ? READ4(input, block, x, batch * in_height + y)
                          : (DATA4)(constant_value);
#else
  // Mirror images: with PAD_TYPE 2 the edge pixel itself is repeated.
  const int edge = PAD_TYPE - 1;
  if (x < 0) x = -x - edge;
  if (y < 0) y = -y - edge;
  if (x >= in_width) x = 2 * in_width - 2 - x + edge;
  if (y >= in_height) y = 2 * in_height - 2 - y + edge;
  const DATA4 value = READ4(input, block, x, batch * in_height + y);
#endif
  WRITE4(output, block, w, row, value);
}
