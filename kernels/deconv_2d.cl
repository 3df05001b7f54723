// Transposed convolution: four outputs of a row, a stride apart, by four channels per work-item;
// they share their taps. Output o gets tap f of input i where o = i * stride - pad + f.
// Global size: (output blocks, ceil(output width / stride / 4) * stride, batch * output height).
//   DEPTHWISE  one filter per channel
//   GROUPS     each output block sees its own run of input blocks, see conv_2d.cl

#define INPUT(x) \
  ((x) >= 0 && (x) < input_width ? READ4(input, source, (x), y) : (DATA4)(0))

#ifdef DEPTHWISE
#define ADD_TAP                                                               \
  const DATA4 weight = READ_WEIGHTS(filter, kh * kernel_w + kw, block);       \
  out0 = mad(INPUT(x), weight, out0);                                         \
  out1 = mad(INPUT(x + 1), weight, out1);                                     \
  out2 = mad(INPUT(x + 2), weight, out2);                                     \
  out3 = mad(INPUT(x + 3), weight, out3);
#else
#define ADD_TAP                                                               \
  const int tap = (block * kernel_h + kh) * kernel_w + kw;                    \
  const DATA4 w0 = READ_WEIGHTS(filter, in_block * 4, tap);                   \
  const DATA4 w1 = READ_WEIGHTS(filter, in_block * 4 + 1, tap);               \
  const DATA4 w2 = READ_WEIGHTS(filter, in_block * 4 + 2, tap);               \
  const DATA4 w3 = READ_WEIGHTS(filter, in_block * 4 + 3, tap);               \
  const DATA4 in0 = INPUT(x);                                                 \
  const DATA4 in1 = INPUT(x + 1);                                             \
  const DATA4 in2 = INPUT(x + 2);                                             \
  const DATA4 in3 = INPUT(x + 3);                                             \
  MULTIPLY_ADD(out0, in0, w0, w1, w2, w3);                                    \
  MULTIPLY_ADD(out1, in1, w0, w1, w2, w3);                                    \
  MULTIPLY_ADD(out2, in2, w0, w1, w2, w3);                                    \
  MULTIPLY_ADD(out3, in3, w0, w1, w2, w3);
#endif

__kernel void deconv_2d(GWS3 IN(input),
                        WEIGHTS(filter),
                        BIAS_ARGUMENT OUT(output),
                        __private const float max_limit,
                        __private const float coefficient,
                        __private const int in_height,
                        __private const int in_blocks,
                        __private const int out_height,
                        __private const int kernel_h,
                        __private const int kernel_w,
                        __private const int stride_h,
                        __private const int stride_w,
                        __private const int pad_top,
                        __private const int pad_left
#ifdef GROUPS
                        , __private const int group_in,
                        __private const int group_out,
                        __private const int last_block
#endif
                        ) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int item = get_global_id(1);
  const int w = item / stride_w * 4 * stride_w + item % stride_w;
  if (w >= output_width) return;
  const int row = get_global_id(2);
  const int image_top = row / out_height * in_height;
  const int top = row % out_height + pad_top;
  const int left = w + pad_left;

  DATA4 out0 = BIAS_AT(block);
  DATA4 out1 = out0;
  DATA4 out2 = out0;
  DATA4 out3 = out0;

#ifdef DEPTHWISE
  const int source = block;
#else
#ifdef GROUPS
  const int first_block = block * 4 / group_out * group_in / 4;
#endif
  for (int in_block = 0; in_block < in_blocks; ++in_block)
#endif
  {
#ifdef GROUPS
    // Beyond the last block the weights are zero.
    const int source = min(first_block + in_block, last_block);
#elif !defined(DEPTHWISE)
    const int source = in_block;
#endif
    for (int kh = top % stride_h; kh < kernel_h; kh += stride_h) {
      const int h = (top - kh) / stride_h;
      if (top < kh || h >= in_height) continue;
      const int y = image_top + h;
      for (int kw = left % stride_w; kw < kernel_w; kw += stride_w) {
        const int x = (left - kw) / stride_w;  // exact: a multiple of the stride, maybe below 0
        ADD_TAP
      }
    }
  }

  WRITE4(output, block, w, row, activate(out0, max_limit, coefficient));
  if (w + stride_w < output_width)
    WRITE4(output, block, w + stride_w, row, activate(out1, max_limit, coefficient));
  if (w + stride_w * 2 < output_width)
    WRITE4(output, block, w + stride_w * 2, row, activate(out2, max_limit, coefficient));
  if (w + stride_w * 3 < output_width)
    WRITE4(output, block, w + stride_w * 3, row, activate(out3, max_limit, coefficient));
}
