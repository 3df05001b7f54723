// Convolution as a product of matrices, for GPUs: TILE pixels by four output channels per
// work-item, in registers. At batch 1 most layers have too few outputs to fill a large GPU, and
// each waits for memory rather than for arithmetic; so the items of a work-group along the last
// axis share out the sum over the input channels, and add their parts up in local memory.
//
// The filter lies as [tap][input channel][output channel], both rounded up to four with zeros;
// behind it a row of biases.
// Global size: (output blocks, ceil(pixels / TILE), 1), with pixels = N * H * W; the last local
// size is the number of parts. One of the kernels' names is defined when the program is built.

#include "buffer_gpu.h"

// Local memory holds the sums of so many items; larger groups do not share the work out.
#define MOST_ITEMS 256

#define FOR_TILE UNROLLED for (int i = 0; i < TILE; ++i)

// sums += in . filter, over four input channels; `at` is where the first one's weights lie.
#define MULTIPLY_BLOCK(sums, in, filter, at, row)                          \
  {                                                                        \
    const float4 w0 = FETCH4((filter) + (at));                             \
    const float4 w1 = FETCH4((filter) + (at) + (row));                     \
    const float4 w2 = FETCH4((filter) + (at) + (row) * 2);                 \
    const float4 w3 = FETCH4((filter) + (at) + (row) * 3);                 \
    FOR_TILE {                                                             \
      sums[i] = mad((float4)(in[i].x), w0, sums[i]);                       \
      sums[i] = mad((float4)(in[i].y), w1, sums[i]);                       \
      sums[i] = mad((float4)(in[i].z), w2, sums[i]);                       \
      sums[i] = mad((float4)(in[i].w), w3, sums[i]);                       \
    }                                                                      \
  }

// The item's place: `first` of its pixels, its output `block` (clamped: every item of a group
// has to come to the barrier), which `part` of how many.
#define BEGIN_PARTS                                                                     \
  __local float4 scratch[TILE * MOST_ITEMS];                                            \
  const int across = get_local_size(0) * get_local_size(1);                             \
  const int items = across * (int)get_local_size(2);                                    \
  const int parts = items <= MOST_ITEMS ? (int)get_local_size(2) : 1;                   \
  const int part = get_local_id(2);                                                     \
  const int item = get_local_id(1) * get_local_size(0) + get_local_id(0);               \
  const bool exists = get_global_id(0) < s.gws0 && get_global_id(1) < s.gws1;               \
  const int block = min((int)get_global_id(0), s.gws0 - 1);                               \
  const int first = get_global_id(1) * TILE;                                            \
  float4 sums[TILE];                                                                    \
  FOR_TILE sums[i] = (float4)(0);

#define PUT_PIXEL(sum, index)                                                           \
  {                                                                                     \
    const int pixel = first + (index);                                                  \
    PUT4(finish((sum) + bias + GPU_RESIDUAL_AT(pixel, block), s.max_limit,              \
                s.coefficient),                                                         \
         GPU_START(output) + pixel * s.output_stride + block * 4);                      \
  }

// All items add parts up, those with nothing to write too: a loop that only some items of a
// group run is compiled wrong by PoCL 3.1.
#define END_PARTS                                                                       \
  if (parts > 1) {                                                                      \
    FOR_TILE scratch[i * items + part * across + item] = sums[i];                       \
    barrier(CLK_LOCAL_MEM_FENCE);                                                       \
    for (int start = 0; start < TILE; start += parts) {                                 \
      const int index = min(start + part, TILE - 1);                                    \
      float4 sum = (float4)(0);                                                         \
      for (int other = 0; other < parts; ++other) {                                     \
        sum += scratch[index * items + other * across + item];                          \
      }                                                                                 \
      if (exists && start + part < TILE && first + index < s.pixels) {                    \
        PUT_PIXEL(sum, index)                                                           \
      }                                                                                 \
    }                                                                                   \
  } else if (exists && part == 0) {                                                     \
    FOR_TILE {                                                                          \
      if (first + i < s.pixels) PUT_PIXEL(sums[i], i)                                   \
    }                                                                                   \
  }

typedef struct {
  int gws0, gws1, gws2;
  GPU_TENSOR(input)
  int filter_offset;
  GPU_RESIDUAL_TENSOR
  GPU_TENSOR(output)
  float max_limit, coefficient;
  int in_blocks, pixels;
#ifndef buffer_gpu_conv_2d_1x1
  int in_height, out_height;
  int kernel_h, kernel_w;
  int stride_h, stride_w;
  int pad_top, pad_left;
  int dilation_h, dilation_w;
#endif
} Scalars;

#ifdef buffer_gpu_conv_2d_1x1
// Stride 1 and no padding: output pixels are input pixels.
__kernel void buffer_gpu_conv_2d_1x1(GPU_MEMORY GPU_OBJECT(const, input)
                                     GPU_OBJECT(const, filter) GPU_RESIDUAL_OBJECT
                                     GPU_OBJECT(, output) const Scalars s) {
  __global const ELEMENT *input = GPU_START(input);
  BEGIN_PARTS
  const int row = s.gws0 * 4;
  __global const ELEMENT *rows[TILE];
  FOR_TILE rows[i] = input + min(first + i, s.pixels - 1) * s.input_stride;
  __global const ELEMENT *filter = GPU_START(filter) + block * 4;
  const float4 bias = FETCH4(filter + s.in_blocks * 4 * row);

  IN_FOURS for (int k = part; k < s.in_blocks; k += parts) {
    float4 in[TILE];
    FOR_TILE in[i] = FETCH4(rows[i] + k * 4);
    MULTIPLY_BLOCK(sums, in, filter, k * 4 * row, row)
  }
  END_PARTS
}
#endif

#ifdef buffer_gpu_conv_2d
// Anything else.
__kernel void buffer_gpu_conv_2d(GPU_MEMORY GPU_OBJECT(const, input)
                                 GPU_OBJECT(const, filter) GPU_RESIDUAL_OBJECT
                                 GPU_OBJECT(, output) const Scalars s) {
  __global const ELEMENT *input = GPU_START(input);
  BEGIN_PARTS
  const int row = s.gws0 * 4;
  // k counts the blocks of all taps
  const int count = s.kernel_h * s.kernel_w * s.in_blocks;
  __global const ELEMENT *filter = GPU_START(filter) + block * 4;
  const float4 bias = FETCH4(filter + count * 4 * row);

  // where the windows of the tile's pixels begin; pixels beyond the last repeat it
  int left[TILE], top[TILE], image[TILE];
  FOR_TILE {
    const int pixel = min(first + i, s.pixels - 1);
    left[i] = pixel % s.output_width * s.stride_w - s.pad_left;
    top[i] = pixel / s.output_width % s.out_height * s.stride_h - s.pad_top;
    image[i] = pixel / s.output_width / s.out_height * s.in_height;
  }

  IN_FOURS for (int k = part; k < count; k += parts) {
    const int tap = k / s.in_blocks;
    const int in_block = k - tap * s.in_blocks;
    const int down = tap / s.kernel_w * s.dilation_h;
    const int right = tap % s.kernel_w * s.dilation_w;
    float4 in[TILE];
    FOR_TILE {
      const int x = left[i] + right;
      const int y = top[i] + down;
      in[i] = (float4)(0);
      if (x >= 0 && x < s.input_width && y >= 0 && y < s.in_height) {
        in[i] = FETCH4(input + ((image[i] + y) * s.input_width + x) * s.input_stride +
                       in_block * 4);
      }
    }
    MULTIPLY_BLOCK(sums, in, filter, k * 4 * row, row)
  }
  END_PARTS
}
#endif
