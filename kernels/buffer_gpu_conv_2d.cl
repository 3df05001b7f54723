// Convolution as a product of matrices, for GPUs: TILE pixels by four output channels per
// work-item, in registers. At batch 1 most layers have too few outputs to fill a large GPU, and
// each waits for memory rather than for arithmetic; so the items of a work-group along the last
// axis share out the sum over the input channels, and add their parts up in local memory.
//
// The filter lies as [tap][input channel][output channel], both rounded up to four with zeros.
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
  const bool exists = get_global_id(0) < gws0 && get_global_id(1) < gws1;               \
  const int block = min((int)get_global_id(0), gws0 - 1);                               \
  const int first = get_global_id(1) * TILE;                                            \
  float4 sums[TILE];                                                                    \
  FOR_TILE sums[i] = (float4)(0);

#define WRITE_PIXEL(sum, index)                                                         \
  {                                                                                     \
    const int pixel = first + (index);                                                  \
    PUT4(finish((sum) + GPU_BIAS_AT(block) + GPU_RESIDUAL_AT(pixel, block), max_limit,  \
                coefficient),                                                           \
         output + pixel * output_stride + block * 4);                                   \
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
      if (exists && start + part < TILE && first + index < pixels) {                    \
        WRITE_PIXEL(sum, index)                                                         \
      }                                                                                 \
    }                                                                                   \
  } else if (exists && part == 0) {                                                     \
    FOR_TILE {                                                                          \
      if (first + i < pixels) WRITE_PIXEL(sums[i], i)                                   \
    }                                                                                   \
  }

#ifdef buffer_gpu_conv_2d_1x1
// Stride 1 and no padding: output pixels are input pixels.
__kernel void buffer_gpu_conv_2d_1x1(GWS3 IN(input),
                                     __global const ELEMENT *restrict filter,
                                     GPU_BIAS GPU_RESIDUAL OUT(output),
                                     __private const float max_limit,
                                     __private const float coefficient,
                                     __private const int in_blocks,
                                     __private const int pixels) {
  BEGIN_PARTS
  const int row = gws0 * 4;
  __global const ELEMENT *rows[TILE];
  FOR_TILE rows[i] = input + min(first + i, pixels - 1) * input_stride;
  filter += block * 4;

  UNROLLED_TWICE for (int k = part; k < in_blocks; k += parts) {
    float4 in[TILE];
    FOR_TILE in[i] = FETCH4(rows[i] + k * 4);
    MULTIPLY_BLOCK(sums, in, filter, k * 4 * row, row)
  }
  END_PARTS
}
#endif

#ifdef buffer_gpu_conv_2d
// Anything else.
__kernel void buffer_gpu_conv_2d(GWS3 IN(input),
                                 __global const ELEMENT *restrict filter,
                                 GPU_BIAS GPU_RESIDUAL OUT(output),
                                 __private const float max_limit,
                                 __private const float coefficient,
                                 __private const int in_blocks,
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
  BEGIN_PARTS
  const int row = gws0 * 4;
  filter += block * 4;

  // where the windows of the tile's pixels begin; pixels beyond the last repeat it
  int left[TILE], top[TILE], image[TILE];
  FOR_TILE {
    const int pixel = min(first + i, pixels - 1);
    left[i] = pixel % output_width * stride_w - pad_left;
    top[i] = pixel / output_width % out_height * stride_h - pad_top;
    image[i] = pixel / output_width / out_height * in_height;
  }

  // k counts the blocks of all taps
  const int count = kernel_h * kernel_w * in_blocks;
  UNROLLED_TWICE for (int k = part; k < count; k += parts) {
    const int tap = k / in_blocks;
    const int in_block = k - tap * in_blocks;
    const int down = tap / kernel_w * dilation_h;
    const int right = tap % kernel_w * dilation_w;
    float4 in[TILE];
    FOR_TILE {
      const int x = left[i] + right;
      const int y = top[i] + down;
      in[i] = (float4)(0);
      if (x >= 0 && x < input_width && y >= 0 && y < in_height) {
        in[i] = FETCH4(input + ((image[i] + y) * input_width + x) * input_stride + in_block * 4);
      }
    }
    MULTIPLY_BLOCK(sums, in, filter, k * 4 * row, row)
  }
  END_PARTS
}
#endif
