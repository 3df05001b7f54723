// Depthwise convolution, multiplier 1 and no dilation, for GPUs: TILE neighbouring pixels of a
// row by four channels per work-item. KERNEL_H, KERNEL_W and STRIDE are known when the program
// is built, so that all loads of a row of the window are under way at once.
// The filter lies as [tap][channel], behind it a row of biases. Global size: (channel blocks, ceil(W / TILE), N * H).

#include "buffer_gpu.h"

#define FOR_TILE UNROLLED for (int i = 0; i < TILE; ++i)
#define SPAN ((TILE - 1) * STRIDE + KERNEL_W)

typedef struct {
  int gws0, gws1, gws2;
  GPU_TENSOR(input)
  int filter_offset;
  GPU_TENSOR(output)
  float max_limit, coefficient;
  int in_height, out_height;
  int pad_top, pad_left;
} Scalars;

__kernel void buffer_gpu_depthwise_conv2d(GPU_MEMORY GPU_OBJECT(const, input)
                                          GPU_OBJECT(const, filter)
                                          GPU_OBJECT(, output) const Scalars s) {
  const int block = get_global_id(0);
  const int tile = get_global_id(1);
  const int row = get_global_id(2);
  if (block >= s.gws0 || tile >= s.gws1 || row >= s.gws2) return;
  const int w = tile * TILE;
  const int left = w * STRIDE - s.pad_left;
  const int top = row % s.out_height * STRIDE - s.pad_top;
  const int taps_stride = s.gws0 * 4;
  __global const ELEMENT *input =
      GPU_START(input) + row / s.out_height * s.in_height * s.input_width * s.input_stride +
      block * 4;
  __global const ELEMENT *filter = GPU_START(filter) + block * 4;

  float4 sums[TILE];
  FOR_TILE sums[i] = FETCH4(filter + KERNEL_H * KERNEL_W * taps_stride);
  UNROLLED for (int kh = 0; kh < KERNEL_H; ++kh) {
    const int y = top + kh;
    const bool inside = y >= 0 && y < s.in_height;
    float4 in[SPAN];
    UNROLLED for (int i = 0; i < SPAN; ++i) {
      const int x = left + i;
      in[i] = (float4)(0);
      if (inside && x >= 0 && x < s.input_width) {
        in[i] = FETCH4(input + (y * s.input_width + x) * s.input_stride);
      }
    }
    UNROLLED for (int kw = 0; kw < KERNEL_W; ++kw) {
      const float4 weight = FETCH4(filter + (kh * KERNEL_W + kw) * taps_stride);
      FOR_TILE sums[i] = mad(in[i * STRIDE + kw], weight, sums[i]);
    }
  }
  __global ELEMENT *output =
      GPU_START(output) + (row * s.output_width + w) * s.output_stride + block * 4;
  FOR_TILE {
    if (w + i < s.output_width) {
      PUT4(finish(sums[i], s.max_limit, s.coefficient), output + i * s.output_stride);
    }
  }
}
