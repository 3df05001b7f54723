// Depthwise convolution, multiplier 1: a row of the output by 16 channels per work-item, TILE
// pixels of it at a time in registers. The filter lies as [channel block of 16][tap][lane].
// Global size: (channel blocks of 16, 1, batch * output height).
//   KERNEL_W, STRIDE_W  both known, and the dilation along the row 1: the part of an input row
//                       that a tile needs is read once, for all of the window's columns

#include "buffer_wide.h"

#define FOR_TILE UNROLL(TILE) for (int i = 0; i < TILE; ++i)
#define COLUMNS ((TILE - 1) * STRIDE_W + KERNEL_W)

__kernel void buffer_depthwise_conv2d(GWS3 IN(input),
                                      __global const ELEMENT *restrict filter,
                                      WIDE_BIAS OUT(output),
                                      __private const float lower,
                                      __private const float upper,
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
  const int step = stride_w * input_stride;
  input += row / out_height * in_height * input_width * input_stride + channel;
  output += row * output_width * output_stride + channel;
  filter += channel * kernel_h * kernel_w;

  const float16 start = WIDE_BIAS_AT(channel);
  for (int tile = 0; tile < output_width; tile += TILE) {
    // the last tile of a row that is no multiple of TILE begins earlier
    const int w = max(min(tile, output_width - TILE), 0);
    const int left = w * stride_w - pad_left;
    const int right = left + (TILE - 1) * stride_w + (kernel_w - 1) * dilation_w;
    const bool inside = left >= 0 && right < input_width;

    float16 sums[TILE];
    FOR_TILE sums[i] = start;
    for (int kh = 0; kh < kernel_h; ++kh) {
      const int y = top + kh * dilation_h;
      if (y < 0 || y >= in_height) continue;
#ifdef KERNEL_W
      __global const ELEMENT *in = input + (y * input_width + left) * input_stride;
      float16 columns[COLUMNS];
      UNROLL(COLUMNS) for (int j = 0; j < COLUMNS; ++j) {
        const bool there = inside || (left + j >= 0 && left + j < input_width);
        columns[j] = there ? LOAD16(in + j * input_stride) : (float16)(0);
      }
      UNROLL(KERNEL_W) for (int kw = 0; kw < KERNEL_W; ++kw) {
        const float16 weight = LOAD16(filter + (kh * KERNEL_W + kw) * 16);
        FOR_TILE sums[i] = mad(columns[i * STRIDE_W + kw], weight, sums[i]);
      }
#else
      for (int kw = 0; kw < kernel_w; ++kw) {
        const float16 weight = LOAD16(filter + (kh * kernel_w + kw) * 16);
        const int x = left + kw * dilation_w;
        __global const ELEMENT *in = input + (y * input_width + x) * input_stride;
        if (inside) {
          FOR_TILE sums[i] = mad(LOAD16(in + i * step), weight, sums[i]);
        } else {
          FOR_TILE {
            const int column = x + i * stride_w;
            if (column >= 0 && column < input_width) {
              sums[i] = mad(LOAD16(in + i * step), weight, sums[i]);
            }
          }
        }
      }
#endif
    }
    FOR_TILE {
      if (w + i < output_width) {
        STORE16(activate16(sums[i], lower, upper), output + (w + i) * output_stride);
      }
    }
  }
}
