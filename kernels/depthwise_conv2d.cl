// Depthwise convolution, multiplier 1: four output pixels of a row by four channels per
// work-item. Global size: (channel blocks, ceil(output width / 4), batch * output height).
// One of the two kernels' names is defined when the program is built.
//   STRIDE    along a row
//   STRIDE_H  from row to row, if it is another

#ifndef STRIDE_H
#define STRIDE_H STRIDE
#endif

#define INPUT(x) \
  ((x) >= 0 && (x) < in_width ? READ4(input, block, (x), y) : (DATA4)(0))

#define WRITE_OUTPUTS                                                                 \
  const int count = out_width - w;                                                    \
  WRITE4(output, block, w, row, activate(out0, max_limit, coefficient));                  \
  if (count > 1) WRITE4(output, block, w + 1, row, activate(out1, max_limit, coefficient)); \
  if (count > 2) WRITE4(output, block, w + 2, row, activate(out2, max_limit, coefficient)); \
  if (count > 3) WRITE4(output, block, w + 3, row, activate(out3, max_limit, coefficient));

#ifdef depthwise_conv2d
// Any stride and dilation.
__kernel void depthwise_conv2d(GWS3 IN(input),
                               WEIGHTS(filter),
                               BIAS_ARGUMENT OUT(output),
                               __private const float max_limit,
                               __private const float coefficient,
                               __private const int in_height,
                               __private const int in_width,
                               __private const int out_height,
                               __private const int out_width,
                               __private const int kernel_h,
                               __private const int kernel_w,
                               __private const int pad_top,
                               __private const int pad_left,
                               __private const int dilation_h,
                               __private const int dilation_w) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1) * 4;
  const int row = get_global_id(2);
  const int image_top = row / out_height * in_height;
  const int top = row % out_height * STRIDE_H - pad_top;
  const int left = w * STRIDE - pad_left;

  DATA4 out0 = BIAS_AT(block);
  DATA4 out1 = out0;
  DATA4 out2 = out0;
  DATA4 out3 = out0;

  for (int kh = 0; kh < kernel_h; ++kh) {
    const int h = top + kh * dilation_h;
    if (h < 0 || h >= in_height) continue;
    const int y = image_top + h;
    for (int kw = 0; kw < kernel_w; ++kw) {
      const DATA4 weight = READ_WEIGHTS(filter, kh * kernel_w + kw, block);
      const int x = left + kw * dilation_w;
      out0 = mad(INPUT(x), weight, out0);
      out1 = mad(INPUT(x + STRIDE), weight, out1);
      out2 = mad(INPUT(x + STRIDE * 2), weight, out2);
      out3 = mad(INPUT(x + STRIDE * 3), weight, out3);
    }
  }
  WRITE_OUTPUTS
}
#endif

#ifdef depthwise_conv2d_s1
// Stride and dilation 1: neighbouring outputs share inputs, so a window slides along the row.
__kernel void depthwise_conv2d_s1(GWS3 IN(input),
                                  WEIGHTS(filter),
                                  BIAS_ARGUMENT OUT(output),
                                  __private const float max_limit,
                                  __private const float coefficient,
                                  __private const int in_height,
                                  __private const int in_width,
                                  __private const int out_height,
                                  __private const int out_width,
                                  __private const int kernel_h,
                                  __private const int kernel_w,
                                  __private const int pad_top,
                                  __private const int pad_left) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1) * 4;
  const int row = get_global_id(2);
  const int image_top = row / out_height * in_height;
  const int top = row % out_height - pad_top;
  const int left = w - pad_left;

  DATA4 out0 = BIAS_AT(block);
  DATA4 out1 = out0;
  DATA4 out2 = out0;
  DATA4 out3 = out0;

  for (int kh = 0; kh < kernel_h; ++kh) {
    const int h = top + kh;
    if (h < 0 || h >= in_height) continue;
    const int y = image_top + h;
    DATA4 in0 = INPUT(left);
    DATA4 in1 = INPUT(left + 1);
    DATA4 in2 = INPUT(left + 2);
    for (int kw = 0; kw < kernel_w; ++kw) {
      const DATA4 weight = READ_WEIGHTS(filter, kh * kernel_w + kw, block);
      const DATA4 in3 = INPUT(left + kw + 3);
      out0 = mad(in0, weight, out0);
      out1 = mad(in1, weight, out1);
      out2 = mad(in2, weight, out2);
      out3 = mad(in3, weight, out3);
      in0 = in1;
      in1 = in2;
      in2 = in3;
    }
  }
  WRITE_OUTPUTS
}
#endif
