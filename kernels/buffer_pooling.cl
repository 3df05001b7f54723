// Pooling: a row of the output by 16 channels per work-item.
// Global size: (channel blocks of 16, 1, batch * output height).
//   POOL_AVG  average over the pixels inside the image (padding does not count); else maximum

#include "buffer_wide.h"

#ifdef POOL_AVG
#define START 0
#define COMBINE(a, b) ((a) + (b))
#else
#define START (-MAXFLOAT)
#define COMBINE(a, b) ((b) > (a) ? (b) : (a))
#endif

__kernel void buffer_pooling(GWS3 IN(input),
                             OUT(output),
                             __private const int in_height,
                             __private const int out_height,
                             __private const int kernel_h,
                             __private const int kernel_w,
                             __private const int stride_h,
                             __private const int stride_w,
                             __private const int pad_top,
                             __private const int pad_left,
                             __private const int dilation_h,
                             __private const int dilation_w) {
  if (IDLE3) return;
  const int channel = get_global_id(0) * 16;
  const int row = get_global_id(2);
  const int top = row % out_height * stride_h - pad_top;
  // the first place of the window that lies inside, and the end of the window or the image
  const int first_h = top < 0 ? top + (dilation_h - 1 - top) / dilation_h * dilation_h : top;
  const int last_h = min(top + kernel_h * dilation_h, in_height);
  input += row / out_height * in_height * input_width * input_stride + channel;
  output += row * output_width * output_stride + channel;

  for (int w = 0; w < output_width; ++w) {
    const int left = w * stride_w - pad_left;
    const int first_w = left < 0 ? left + (dilation_w - 1 - left) / dilation_w * dilation_w : left;
    const int last_w = min(left + kernel_w * dilation_w, input_width);
    float16 value = (float16)(START);
    int count = 0;
    for (int y = first_h; y < last_h; y += dilation_h) {
      for (int x = first_w; x < last_w; x += dilation_w, ++count) {
        const float16 in = LOAD16(input + (y * input_width + x) * input_stride);
        value = COMBINE(value, in);
      }
    }
#ifdef POOL_AVG
    value /= (float16)(count);
#endif
    STORE16(value, output + w * output_stride);
  }
}
