// Ops that move values without changing them: every value of the output is taken from where it
// lies in the input. Global size: (output blocks, output width, batch * output height).
// Exactly one of the kernels' names is defined when the program is built.
//   WHOLE_BLOCKS  four output channels of a block are four of a block in the input, too

#define LANE(four, lane) \
  ((lane) == 0 ? (four).x : (lane) == 1 ? (four).y : (lane) == 2 ? (four).z : (four).w)

// The output's position: block, w, row, and the batch n and height h that make up the row.
#define POSITION                      \
  if (IDLE3) return;                  \
  const int block = get_global_id(0); \
  const int w = get_global_id(1);     \
  const int row = get_global_id(2);   \
  const int n = row / out_height;     \
  const int h = row % out_height;

// Writes four output channels, `source` being the (n, h, w, c) that output channel c comes from.
#ifdef WHOLE_BLOCKS
#define GATHER(source)                                                              \
  const int c = block * 4;                                                          \
  const int4 from = (source);                                                       \
  WRITE4(output, block, w, row,                                                     \
         READ4(input, from.w / 4, from.z, from.x * in_height + from.y));
#else
#define GATHER_LANE(lane, number, source)                                           \
  {                                                                                 \
    const int c = min(block * 4 + number, out_channels - 1);                        \
    const int4 from = (source);                                                     \
    const DATA4 four = READ4(input, from.w / 4, from.z, from.x * in_height + from.y); \
    value.lane = LANE(four, from.w % 4);                                            \
  }
#define GATHER(source)                    \
  DATA4 value;                            \
  GATHER_LANE(x, 0, source)               \
  GATHER_LANE(y, 1, source)               \
  GATHER_LANE(z, 2, source)               \
  GATHER_LANE(w, 3, source)               \
  WRITE4(output, block, w, row, value);
#endif

#define TENSORS                         \
  IN(input), OUT(output),               \
  __private const int in_height,        \
  __private const int in_channels,      \
  __private const int out_height,       \
  __private const int out_channels

#ifdef slice
// Every step-th value along each axis, from `begin` on; a step may be negative.
__kernel void slice(GWS3 TENSORS,
                    __private const int begin_n,
                    __private const int begin_h,
                    __private const int begin_w,
                    __private const int begin_c,
                    __private const int step_n,
                    __private const int step_h,
                    __private const int step_w,
                    __private const int step_c) {
  POSITION
  GATHER((int4)(begin_n + n * step_n, begin_h + h * step_h, begin_w + w * step_w,
                begin_c + c * step_c))
}
#endif

#ifdef transpose
// FROM_N, FROM_H, FROM_W, FROM_C: which of n, h, w, c of the output is that axis of the input.
__kernel void transpose(GWS3 TENSORS) {
  POSITION
  GATHER((int4)(FROM_N, FROM_H, FROM_W, FROM_C))
}
#endif

#ifdef reshape
// The same values in the same order, counted pixel by pixel, or with NCHW channel by channel.
#ifdef NCHW
#define COUNT (((n * out_channels + c) * out_height + h) * output_width + w)
#define PLACE(i)                                                             \
  (int4)((i) / input_width / in_height / in_channels,                        \
         (i) / input_width % in_height, (i) % input_width,                   \
         (i) / input_width / in_height % in_channels)
#else
#define COUNT ((row * output_width + w) * out_channels + c)
#define PLACE(i)                                                             \
  (int4)((i) / in_channels / input_width / in_height,                        \
         (i) / in_channels / input_width % in_height,                        \
         (i) / in_channels % input_width, (i) % in_channels)
#endif
__kernel void reshape(GWS3 TENSORS) {
  POSITION
  GATHER(PLACE(COUNT))
}
#endif

#ifdef channel_shuffle
// Channels seen as groups x rest, written as rest x groups.
__kernel void channel_shuffle(GWS3 TENSORS, __private const int groups) {
  POSITION
  GATHER((int4)(n, h, w, c % groups * (in_channels / groups) + c / groups))
}
#endif

#ifdef depth_to_space
// CRD  channels count column and row of the block last, not first
#ifdef CRD
#define DEPTH (c * size * size + h % size * size + w % size)
#else
#define DEPTH ((h % size * size + w % size) * out_channels + c)
#endif
__kernel void depth_to_space(GWS3 TENSORS, __private const int size) {
  POSITION
  GATHER((int4)(n, h / size, w / size, DEPTH))
}
#endif

#ifdef space_to_depth
__kernel void space_to_depth(GWS3 TENSORS, __private const int size) {
  POSITION
  GATHER((int4)(n, h * size + c / in_channels / size, w * size + c / in_channels % size,
                c % in_channels))
}
#endif

#ifdef batch_to_space
__kernel void batch_to_space(GWS3 TENSORS,
                             __private const int batch,
                             __private const int block_h,
                             __private const int block_w,
                             __private const int crop_top,
                             __private const int crop_left) {
  POSITION
  const int y = h + crop_top;
  const int x = w + crop_left;
  GATHER((int4)((y % block_h * block_w + x % block_w) * batch + n, y / block_h, x / block_w, c))
}
#endif

#ifdef space_to_batch
__kernel void space_to_batch(GWS3 TENSORS,
                             __private const int batch,
                             __private const int block_h,
                             __private const int block_w,
                             __private const int pad_top,
                             __private const int pad_left) {
  POSITION
  const int y = h * block_h + n / batch / block_w - pad_top;
  const int x = w * block_w + n / batch % block_w - pad_left;
  if (y < 0 || y >= in_height || x < 0 || x >= input_width) {
    WRITE4(output, block, w, row, (DATA4)(0));
    return;
  }
  GATHER((int4)(n % batch, y, x, c))
}
#endif
