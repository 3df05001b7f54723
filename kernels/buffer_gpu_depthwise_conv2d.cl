// Depthwise convolution, multiplier 1 and no dilation, for GPUs: TILE neighbouring pixels of a
// row by four channels per work-item. KERNEL_H, KERNEL_W and STRIDE are known when the program
// is built, so that all loads of a row of the window are under way at once.
// The filter lies as [tap][channel]. Global size: (channel blocks, ceil(W / TILE), N * H).

#include "buffer_gpu.h"

#define FOR_TILE UNROLLED for (int i = 0; i < TILE; ++i)
#define SPAN ((TILE - 1) * STRIDE + KERNEL_W)

__kernel void buffer_gpu_depthwise_conv2d(GWS3 IN(input),
                                          __global const ELEMENT *restrict filter,
                                          GPU_BIAS OUT(output),
                                          __private const float max_limit,
                                          __private const float coefficient,
                                          __private const int in_height,
                                          __private const int out_height,
                                          __private const int pad_top,
                                          __private const int pad_left) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1) * TILE;
  const int row = get_global_id(2);
  const int left = w * STRIDE - pad_left;
  const int top = row % out_height * STRIDE - pad_top;
  const int taps_stride = gws0 * 4;
  input += row / out_height * in_height * input_width * input_stride + block * 4;
  filter += block * 4;

  float4 sums[TILE];
  FOR_TILE sums[i] = GPU_BIAS_AT(block);
  UNROLLED for (int kh = 0; kh < KERNEL_H; ++kh) {
    const int y = top + kh;
    const bool inside = y >= 0 && y < in_height;
    float4 in[SPAN];
    UNROLLED for (int i = 0; i < SPAN; ++i) {
      const int x = left + i;
      in[i] = (float4)(0);
      if (inside && x >= 0 && x < input_width) {
        in[i] = FETCH4(input + (y * input_width + x) * input_stride);
      }
    }
    UNROLLED for (int kw = 0; kw < KERNEL_W; ++kw) {
      const float4 weight = FETCH4(filter + (kh * KERNEL_W + kw) * taps_stride);
      FOR_TILE sums[i] = mad(in[i * STRIDE + kw], weight, sums[i]);
    }
  }
  output += (row * output_width + w) * output_stride + block * 4;
  FOR_TILE {
    if (w + i < output_width) {
      PUT4(finish(sums[i], max_limit, coefficient), output + i * output_stride);
    }
  }
}
