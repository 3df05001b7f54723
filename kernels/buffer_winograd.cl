// Winograd's convolution F(4x4, 3x3), stride 1: 36 products per tile of 4x4 output pixels and pair
// of channels, where the definition has 144. Three kernels, of which one's name is defined when
// the program is built: tiles of the input into the domain of the products, the products, and back.
//
// Between them tensors have a tile per pixel row of 36 pixels: [tile][6 * row + column][channel].
// Tiles go along the rows of the output, `tiles_w` of them in each, then down, then to the next
// image. Matrices: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).

#include "buffer_wide.h"
#include "buffer_panels.h"

#define FOR_6(i) UNROLL(6) for (int i = 0; i < 6; ++i)
#define FOR_4(i) UNROLL(4) for (int i = 0; i < 4; ++i)

#ifdef buffer_winograd_input
// to = B^T . from; `step`: between the elements of either.
#define FORWARD(from, from_step, to, to_step)                     \
  {                                                               \
    const float16 even = from[4 * from_step] - 4 * from[2 * from_step]; \
    const float16 odd = from[3 * from_step] - 4 * from[from_step];      \
    const float16 even2 = from[4 * from_step] - from[2 * from_step];    \
    const float16 odd2 = 2 * (from[3 * from_step] - from[from_step]);   \
    to[0] = 4 * from[0] - 5 * from[2 * from_step] + from[4 * from_step]; \
    to[to_step] = even + odd;                                     \
    to[2 * to_step] = even - odd;                                 \
    to[3 * to_step] = even2 + odd2;                               \
    to[4 * to_step] = even2 - odd2;                               \
    to[5 * to_step] = 4 * from[from_step] - 5 * from[3 * from_step] + from[5 * from_step]; \
  }

// Global size: (channel blocks of 16, 1, tiles).
__kernel void buffer_winograd_input(GWS3 IN(input),
                                    OUT(output),
                                    __private const int in_height,
                                    __private const int tiles_h,
                                    __private const int tiles_w,
                                    __private const int pad_top,
                                    __private const int pad_left) {
  if (IDLE3) return;
  const int channel = get_global_id(0) * 16;
  const int tile = get_global_id(2);
  const int left = tile % tiles_w * 4 - pad_left;
  const int top = tile / tiles_w % tiles_h * 4 - pad_top;
  input += tile / tiles_w / tiles_h * in_height * input_width * input_stride + channel;
  output += tile * 36 * output_stride + channel;

  float16 rows[36];
  FOR_6(y) {
    const int h = top + y;
    float16 in[6];
    FOR_6(x) {
      const int w = left + x;
      const bool inside = h >= 0 && h < in_height && w >= 0 && w < input_width;
      in[x] = inside ? LOAD16(input + (h * input_width + w) * input_stride) : (float16)(0);
    }
    float16 *to = rows + y * 6;
    FORWARD(in, 1, to, 1)
  }
  FOR_6(x) {
    float16 *from = rows + x;
    float16 out[6];
    FORWARD(from, 6, out, 1)
    FOR_6(y) STORE16(out[y], output + (y * 6 + x) * output_stride);
  }
}
#endif

#ifdef buffer_winograd_product
// Global size: (ceil(tiles / TILE), 1, 36 * panels); the filter: [pixel of the 36][panel][input
// channel][lane].
__kernel void buffer_winograd_product(GWS3 IN(input),
                                      __global const ELEMENT *restrict filter,
                                      OUT(output),
                                      __private const int in_channels,
                                      __private const int tiles) {
  if (IDLE3) return;
  const int first = get_global_id(0) * TILE;
  const int panels = gws2 / 36;
  const int pixel = get_global_id(2) / panels;
  const int channel = get_global_id(2) % panels * PANEL;

  __global const ELEMENT *in[TILE];
  FOR_TILE in[i] = input + (min(first + i, tiles - 1) * 36 + pixel) * input_stride;
  filter += get_global_id(2) * in_channels * PANEL;
  float16 sums[TILE][WIDTH];
  FOR_TILE {
    FOR_WIDTH sums[i][j] = (float16)(0);
  }
  MULTIPLY_TAP(sums, in, 0, filter, in_channels)
  FOR_TILE {
    if (first + i < tiles) {
      FOR_WIDTH {
        if (channel + j * 16 < output_stride) {
          STORE16(sums[i][j],
                  output + ((first + i) * 36 + pixel) * output_stride + channel + j * 16);
        }
      }
    }
  }
}
#endif

#ifdef buffer_winograd_output
// to = A^T . from
#define BACK(from, from_step, to, to_step)                        \
  {                                                               \
    const float16 plus = from[from_step] + from[2 * from_step];   \
    const float16 minus = from[from_step] - from[2 * from_step];  \
    const float16 plus2 = from[3 * from_step] + from[4 * from_step];  \
    const float16 minus2 = from[3 * from_step] - from[4 * from_step]; \
    to[0] = from[0] + plus + plus2;                               \
    to[to_step] = minus + 2 * minus2;                             \
    to[2 * to_step] = plus + 4 * plus2;                           \
    to[3 * to_step] = minus + 8 * minus2 + from[5 * from_step];   \
  }

// Global size: (channel blocks of 16, 1, tiles).
__kernel void buffer_winograd_output(GWS3 IN(input),
                                     WIDE_BIAS RESIDUAL_ARGUMENT OUT(output),
                                     __private const float lower,
                                     __private const float upper,
                                     __private const int out_height,
                                     __private const int tiles_h,
                                     __private const int tiles_w) {
  if (IDLE3) return;
  const int channel = get_global_id(0) * 16;
  const int tile = get_global_id(2);
  const int left = tile % tiles_w * 4;
  const int top = tile / tiles_w % tiles_h * 4;
  const int image = tile / tiles_w / tiles_h * out_height;
  input += tile * 36 * input_stride + channel;

  float16 rows[24];
  FOR_6(y) {
    float16 in[6];
    FOR_6(x) in[x] = LOAD16(input + (y * 6 + x) * input_stride);
    float16 *to = rows + y * 4;
    BACK(in, 1, to, 1)
  }
  const float16 start = WIDE_BIAS_AT(channel);
  FOR_4(x) {
    float16 *from = rows + x;
    float16 out[4];
    BACK(from, 4, out, 1)
    FOR_4(y) {
      if (left + x < output_width && top + y < out_height) {
        const int index =
            ((image + top + y) * output_width + left + x) * output_stride + channel;
        const float16 sum = out[y] + start ADD_RESIDUAL(LOAD16, index);
        STORE16(activate16(sum, lower, upper), output + index);
      }
    }
  }
}
#endif
