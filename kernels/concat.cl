// Concatenation. Exactly one of the kernels' names is defined when the program is built.

#ifdef concat_channel
// One of several inputs along the channels: its blocks, as far as they begin in it. A block whose
// last lanes are of the inputs behind takes them from there: four channels are of at most four
// inputs. Global size: (those blocks, width, batch * height).
//   ALIGNED  this input begins with a block, and all its blocks are its own

#define LANE(four, lane) \
  ((lane) == 0 ? (four).x : (lane) == 1 ? (four).y : (lane) == 2 ? (four).z : (four).w)
#define AT(input, c) LANE(READ4(input, (c) / 4, w, row), (c) % 4)
#define TAKE(lane, number)                                                          \
  {                                                                                 \
    int c = block * 4 + number - begin;                                             \
    if (c < channels0) value.lane = AT(input0, c);                                  \
    else if ((c -= channels0) < channels1) value.lane = AT(input1, c);              \
    else if ((c -= channels1) < channels2) value.lane = AT(input2, c);              \
    else if ((c -= channels2) < channels3) value.lane = AT(input3, c);              \
    else value.lane = 0;                                                            \
  }

__kernel void concat_channel(GWS3 IN(input0),
#ifndef ALIGNED
                             IN(input1),
                             IN(input2),
                             IN(input3),
                             __private const int begin,
                             __private const int channels0,
                             __private const int channels1,
                             __private const int channels2,
                             __private const int channels3,
#endif
                             __private const int first_block,
                             OUT(output)) {
  if (IDLE3) return;
  const int block = first_block + get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
#ifdef ALIGNED
  const DATA4 value = READ4(input0, get_global_id(0), w, row);
#else
  DATA4 value;
  TAKE(x, 0)
  TAKE(y, 1)
  TAKE(z, 2)
  TAKE(w, 3)
#endif
  WRITE4(output, block, w, row, value);
}
#endif

#ifdef concat_pixels
// One of several inputs along another axis: all of it, from pixel (n, h, w) on.
// Global size: (channel blocks, width, batch * height).
__kernel void concat_pixels(GWS3 IN(input),
                            __private const int in_height,
                            __private const int out_height,
                            __private const int begin_n,
                            __private const int begin_h,
                            __private const int begin_w,
                            OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int out_row = (row / in_height + begin_n) * out_height + row % in_height + begin_h;
  WRITE4(output, block, w + begin_w, out_row, READ4(input, block, w, row));
}
#endif
