// 1x1 convolution, no padding: four output pixels of a row by four channels per work-item.
// Global size: (output blocks, ceil(output width / 4), batch * output height).

__kernel void conv_2d_1x1(GWS3 IN(input),
                          WEIGHTS(filter),
                          BIAS_ARGUMENT OUT(output),
                          __private const float max_limit,
                          __private const float coefficient,
                          __private const int in_height,
                          __private const int in_width,
                          __private const int in_blocks,
                          __private const int out_height,
                          __private const int out_width,
                          __private const int stride_h,
                          __private const int stride_w) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1) * 4;
  const int row = get_global_id(2);

  // Columns beyond the row's end read its last pixel; they are not written.
  const int last = out_width - 1;
  const int x0 = min(w, last) * stride_w;
  const int x1 = min(w + 1, last) * stride_w;
  const int x2 = min(w + 2, last) * stride_w;
  const int x3 = min(w + 3, last) * stride_w;
  const int y = row / out_height * in_height + row % out_height * stride_h;

  DATA4 out0 = BIAS_AT(block);
  DATA4 out1 = out0;
  DATA4 out2 = out0;
  DATA4 out3 = out0;

  for (int in_block = 0; in_block < in_blocks; ++in_block) {
    const DATA4 w0 = READ_WEIGHTS(filter, in_block * 4, block);
    const DATA4 w1 = READ_WEIGHTS(filter, in_block * 4 + 1, block);
    const DATA4 w2 = READ_WEIGHTS(filter, in_block * 4 + 2, block);
    const DATA4 w3 = READ_WEIGHTS(filter, in_block * 4 + 3, block);
    const DATA4 in0 = READ4(input, in_block, x0, y);
    const DATA4 in1 = READ4(input, in_block, x1, y);
    const DATA4 in2 = READ4(input, in_block, x2, y);
    const DATA4 in3 = READ4(input, in_block, x3, y);
    MULTIPLY_ADD(out0, in0, w0, w1, w2, w3);
    MULTIPLY_ADD(out1, in1, w0, w1, w2, w3);
    MULTIPLY_ADD(out2, in2, w0, w1, w2, w3);
    MULTIPLY_ADD(out3, in3, w0, w1, w2, w3);
  }

  const int count = out_width - w;
  WRITE4(output, block, w, row, activate(out0, max_limit, coefficient));
  if (count > 1) WRITE4(output, block, w + 1, row, activate(out1, max_limit, coefficient));
  if (count > 2) WRITE4(output, block, w + 2, row, activate(out2, max_limit, coefficient));
  if (count > 3) WRITE4(output, block, w + 3, row, activate(out3, max_limit, coefficient));
}
