// Convolution of any kernel size: four output pixels of a row by four channels per work-item.
// Global size: (output blocks, ceil(output width / 4), batch * output height).
//   GROUPS  an output sees only inputs of its own group: each output block runs over in_blocks
//           blocks from where its first output's group begins, and the filter holds zeros for
//           what is not of an output's group

#define INPUT(x) \
  ((x) >= 0 && (x) < in_width ? READ4(input, source, (x), y) : (DATA4)(0))

__kernel void conv_2d(GWS3 IN(input),
                      WEIGHTS(filter),
                      BIAS_ARGUMENT OUT(output),
                      __private const float max_limit,
                      __private const float coefficient,
                      __private const int in_height,
                      __private const int in_width,
                      __private const int in_blocks,
                      __private const int out_height,
                      __private const int out_width,
                      __private const int kernel_h,
                      __private const int kernel_w,
                      __private const int stride_h,
                      __private const int stride_w,
                      __private const int pad_top,
                      __private const int pad_left,
                      __private const int dilation_h,
                      __private const int dilation_w
#ifdef GROUPS
                      , __private const int group_in,
                      __private const int group_out,
                      __private const int last_block
#endif
                      ) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1) * 4;
  const int row = get_global_id(2);
  const int image_top = row / out_height * in_height;
  const int top = row % out_height * stride_h - pad_top;
  const int left = w * stride_w - pad_left;

  DATA4 out0 = BIAS_AT(block);
  DATA4 out1 = out0;
  DATA4 out2 = out0;
  DATA4 out3 = out0;

#ifdef GROUPS
  const int first_block = block * 4 / group_out * group_in / 4;
#endif
  for (int in_block = 0; in_block < in_blocks; ++in_block) {
#ifdef GROUPS
    const int source = min(first_block + in_block, last_block);
#else
    const int source = in_block;
#endif
    for (int kh = 0; kh < kernel_h; ++kh) {
      const int h = top + kh * dilation_h;
      if (h < 0 || h >= in_height) continue;
      const int y = image_top + h;
      for (int kw = 0; kw < kernel_w; ++kw) {
        const int tap = (block * kernel_h + kh) * kernel_w + kw;
        const DATA4 w0 = READ_WEIGHTS(filter, in_block * 4, tap);
        const DATA4 w1 = READ_WEIGHTS(filter, in_block * 4 + 1, tap);
        const DATA4 w2 = READ_WEIGHTS(filter, in_block * 4 + 2, tap);
        const DATA4 w3 = READ_WEIGHTS(filter, in_block * 4 + 3, tap);
        const int x = left + kw * dilation_w;
        const DATA4 in0 = INPUT(x);
        const DATA4 in1 = INPUT(x + stride_w);
        const DATA4 in2 = INPUT(x + stride_w * 2);
        const DATA4 in3 = INPUT(x + stride_w * 3);
        MULTIPLY_ADD(out0, in0, w0, w1, w2, w3);
        MULTIPLY_ADD(out1, in1, w0, w1, w2, w3);
        MULTIPLY_ADD(out2, in2, w0, w1, w2, w3);
        MULTIPLY_ADD(out3, in3, w0, w1, w2, w3);
      }
    }
  }

  const int count = out_width - w;
  WRITE4(output, block, w, row, activate(out0, max_limit, coefficient));
  if (count > 1) WRITE4(output, block, w + 1, row, activate(out1, max_limit, coefficient));
  if (count > 2) WRITE4(output, block, w + 2, row, activate(out2, max_limit, coefficient));
  if (count > 3) WRITE4(output, block, w + 3, row, activate(out3, max_limit, coefficient));
}
