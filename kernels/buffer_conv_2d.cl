// Convolution as a product of matrices: pixels by input channels times input channels by output
// channels. The filter: [panel][tap][input channel][lane], and after that as many zeros as there
// are input channels. Global size: (ceil(pixels / TILE), 1, panels), with pixels = N * H * W.
// One of the kernels' names is defined when the program is built.

#include "buffer_wide.h"
#include "buffer_panels.h"

#define BEGIN_SUMS                                       \
  float16 sums[TILE][WIDTH];                             \
  FOR_WIDTH {                                            \
    const float16 start = WIDE_BIAS_AT(channel + j * 16); \
    FOR_TILE sums[i][j] = start;                         \
  }

// The last panel may reach beyond the last pixel's channels, and so may a vector if there are no
// more than four.
#define WRITE_SUMS                                                                \
  FOR_TILE {                                                                      \
    if (first + i < pixels) {                                                     \
      FOR_WIDTH {                                                                 \
        const int index = (first + i) * output_stride + channel + j * 16;         \
        if (channel + j * 16 + 16 <= output_stride) {                             \
          const float16 sum = sums[i][j] ADD_RESIDUAL(LOAD16, index);             \
          STORE16(activate16(sum, lower, upper), output + index);                 \
        } else if (j == 0 && output_stride == 4) {                                \
          const float4 sum = sums[i][j].s0123 ADD_RESIDUAL(LOAD4, index);         \
          STORE4(activate16(sum.xyzwxyzwxyzwxyzw, lower, upper).s0123, output + index); \
        }                                                                         \
      }                                                                           \
    }                                                                             \
  }

#ifdef buffer_conv_2d_1x1
// Stride 1 and no padding: output pixels are input pixels.
__kernel void buffer_conv_2d_1x1(GWS3 IN(input),
                                 __global const ELEMENT *restrict filter,
                                 WIDE_BIAS RESIDUAL_ARGUMENT OUT(output),
                                 __private const float lower,
                                 __private const float upper,
                                 __private const int in_channels,
                                 __private const int pixels) {
  if (IDLE3) return;
  const int first = get_global_id(0) * TILE;
  const int channel = get_global_id(2) * PANEL;

  __global const ELEMENT *in[TILE];
  FOR_TILE in[i] = input + min(first + i, pixels - 1) * input_stride;
  filter += channel * in_channels;

  BEGIN_SUMS
  MULTIPLY_TAP(sums, in, 0, filter, in_channels)
  WRITE_SUMS
}
#endif

#ifdef buffer_conv_2d
// Anything else.
__kernel void buffer_conv_2d(GWS3 IN(input),
                             __global const ELEMENT *restrict filter,
                             WIDE_BIAS RESIDUAL_ARGUMENT OUT(output),
                             __private const float lower,
                             __private const float upper,
                             __private const int in_channels,
                             __private const int pixels,
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
  const int first = get_global_id(0) * TILE;
  const int channel = get_global_id(2) * PANEL;
  const int taps = kernel_h * kernel_w;
  __global const ELEMENT *zeros = filter + gws2 * PANEL * taps * in_channels;
  filter += channel * taps * in_channels;

  // where the windows of the tile's pixels begin; pixels beyond the last repeat it
  int left[TILE], top[TILE], image[TILE];
  int w = first % output_width;
  int h = first / output_width % out_height;
  int n = first / output_width / out_height;
  const int last_left = input_width - 1 - (kernel_w - 1) * dilation_w;
  const int last_top = in_height - 1 - (kernel_h - 1) * dilation_h;
  bool inside = true;
  FOR_TILE {
    left[i] = w * stride_w - pad_left;
    top[i] = h * stride_h - pad_top;
    image[i] = n * in_height;
    inside &= left[i] >= 0 && left[i] <= last_left && top[i] >= 0 && top[i] <= last_top;
    if (first + i + 1 < pixels && ++w == output_width) {
      w = 0;
      if (++h == out_height) {
        h = 0;
        ++n;
      }
    }
  }

  BEGIN_SUMS
  __global const ELEMENT *in[TILE];
  if (inside) {
    FOR_TILE in[i] = input + ((image[i] + top[i]) * input_width + left[i]) * input_stride;
    for (int kh = 0; kh < kernel_h; ++kh) {
      for (int kw = 0; kw < kernel_w; ++kw) {
        const int start = (kh * dilation_h * input_width + kw * dilation_w) * input_stride;
        MULTIPLY_TAP(sums, in, start, filter, in_channels)
      }
    }
  } else {
    for (int kh = 0; kh < kernel_h; ++kh) {
      for (int kw = 0; kw < kernel_w; ++kw) {
        FOR_TILE {
          const int x = left[i] + kw * dilation_w;
          const int y = top[i] + kh * dilation_h;
          const bool there = x >= 0 && x < input_width && y >= 0 && y < in_height;
          in[i] = there ? input + ((image[i] + y) * input_width + x) * input_stride : zeros;
        }
        MULTIPLY_TAP(sums, in, 0, filter, in_channels)
      }
    }
  }
  WRITE_SUMS
}
#endif
