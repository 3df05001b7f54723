// Between plain buffers, as the host reads and writes them, and images.
//
// Two-dimensional, one work-item per image pixel. Exactly one of the kernels' names is defined
// when the program is built, and only that kernel is compiled.
//   BUFFER_NCHW  activations lie in the buffer by channels, not by pixels
//   BUFFER_HALF  the buffer holds 16-bit floats (read with vload_half: needs no cl_khr_fp16)

#ifdef BUFFER_HALF
#define BUFFER_TYPE half
#define LOAD(buffer, index) ((DATA_TYPE)vload_half((index), (buffer)))
#define STORE(buffer, index, value) vstore_half((value), (index), (buffer))
#else
#define BUFFER_TYPE DATA_TYPE
#define LOAD(buffer, index) ((buffer)[index])
#define STORE(buffer, index, value) (buffer)[index] = (value)
#endif

// Four values `stride` elements apart; lanes from `count` on are zero.
inline DATA4 load4(__global const BUFFER_TYPE *buffer, int start, int stride, int count) {
  DATA4 value = (DATA4)(0);
  if (count > 0) value.x = LOAD(buffer, start);
  if (count > 1) value.y = LOAD(buffer, start + stride);
  if (count > 2) value.z = LOAD(buffer, start + 2 * stride);
  if (count > 3) value.w = LOAD(buffer, start + 3 * stride);
  return value;
}

#ifdef filter_buffer_to_image
// OIHW -> width: input channels, rounded up to 4 with zeros; height: (output block, kh, kw).
// A pixel holds four output channels.
__kernel void filter_buffer_to_image(GWS2 __global const BUFFER_TYPE *buffer,
                                     __private const int out_channels,
                                     __private const int in_channels,
                                     __private const int taps,
                                     WRITABLE_WEIGHTS(image)) {
  if (IDLE2) return;
  const int in = get_global_id(0);
  const int row = get_global_id(1);
  const int out = row / taps * 4;
  const int tap = row % taps;
  const int count = in < in_channels ? out_channels - out : 0;
  const int stride = in_channels * taps;
  WRITE_WEIGHTS(image, in, row, load4(buffer, out * stride + in * taps + tap, stride, count));
}
#endif

#ifdef dw_filter_buffer_to_image
// 1IHW -> width: taps; height: channel blocks.
__kernel void dw_filter_buffer_to_image(GWS2 __global const BUFFER_TYPE *buffer,
                                        __private const int channels,
                                        __private const int taps,
                                        WRITABLE_WEIGHTS(image)) {
  if (IDLE2) return;
  const int tap = get_global_id(0);
  const int block = get_global_id(1);
  const int channel = block * 4;
  WRITE_WEIGHTS(image, tap, block,
                load4(buffer, channel * taps + tap, taps, channels - channel));
}
#endif

#ifdef weight_width_buffer_to_image
// OIHW -> width: (input block, h, w); height: output channels. A pixel holds four inputs.
__kernel void weight_width_buffer_to_image(GWS2 __global const BUFFER_TYPE *buffer,
                                           __private const int in_channels,
                                           __private const int taps,
                                           WRITABLE_WEIGHTS(image)) {
  if (IDLE2) return;
  const int column = get_global_id(0);
  const int out = get_global_id(1);
  const int in = column / taps * 4;
  const int tap = column % taps;
  WRITE_WEIGHTS(image, column, out,
                load4(buffer, (out * in_channels + in) * taps + tap, taps, in_channels - in));
}
#endif

#ifdef arg_buffer_to_image
// A vector -> one row of blocks.
__kernel void arg_buffer_to_image(GWS2 __global const BUFFER_TYPE *buffer,
                                  __private const int size,
                                  WRITABLE_WEIGHTS(image)) {
  if (IDLE2) return;
  const int block = get_global_id(0);
  WRITE_WEIGHTS(image, block, get_global_id(1), load4(buffer, block * 4, 1, size - block * 4));
}
#endif

// Where channel c of pixel (w, row) of an activation lies in the buffer: PIXEL + c * STRIDE.
#ifdef BUFFER_NCHW
#define CHANNEL_STRIDE (height * width)
#define PIXEL(w, row) \
  ((row) / height * channels * height * width + (row) % height * width + (w))
#else
#define CHANNEL_STRIDE 1
#define PIXEL(w, row) (((row) * width + (w)) * channels)
#endif

#ifdef in_out_buffer_to_image
__kernel void in_out_buffer_to_image(GWS2 __global const BUFFER_TYPE *buffer,
                                     __private const int height,
                                     __private const int width,
                                     __private const int channels,
                                     OUT(image)) {
  if (IDLE2) return;
  const int x = get_global_id(0);
  const int y = get_global_id(1);
  const int channel = x / width * 4;
  const int index = PIXEL(x % width, y) + channel * CHANNEL_STRIDE;
  WRITE4(image, x / width, x % width, y, load4(buffer, index, CHANNEL_STRIDE, channels - channel));
}
#endif

#ifdef in_out_image_to_buffer
__kernel void in_out_image_to_buffer(GWS2 __global BUFFER_TYPE *buffer,
                                     __private const int height,
                                     __private const int width,
                                     __private const int channels,
                                     IN(image)) {
  if (IDLE2) return;
  const int x = get_global_id(0);
  const int y = get_global_id(1);
  const int channel = x / width * 4;
  const int index = PIXEL(x % width, y) + channel * CHANNEL_STRIDE;
  const DATA4 value = READ4(image, x / width, x % width, y);
  const int count = channels - channel;
  STORE(buffer, index, value.x);
  if (count > 1) STORE(buffer, index + CHANNEL_STRIDE, value.y);
  if (count > 2) STORE(buffer, index + CHANNEL_STRIDE * 2, value.z);
  if (count > 3) STORE(buffer, index + CHANNEL_STRIDE * 3, value.w);
}
#endif
