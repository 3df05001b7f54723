// Max and average pooling. Global size: (channel blocks, output width, batch * output height).
//   POOL_AVG  average over the pixels inside the image (padding does not count); else maximum

__kernel void pooling(GWS3 IN(input),
                      OUT(output),
                      __private const int in_height,
                      __private const int in_width,
                      __private const int out_height,
                      __private const int pad_top,
                      __private const int pad_left,
                      __private const int stride_h,
                      __private const int stride_w,
                      __private const int kernel_h,
                      __private const int kernel_w,
                      __private const int dilation_h,
                      __private const int dilation_w) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int image_top = row / out_height * in_height;
  const int top = row % out_height * stride_h - pad_top;
  const int left = w * stride_w - pad_left;
  // the first place of the window that lies inside, and the end of the window or the image
  const int first_h = top < 0 ? top + (dilation_h - 1 - top) / dilation_h * dilation_h : top;
  const int last_h = min(top + kernel_h * dilation_h, in_height);
  const int first_w = left < 0 ? left + (dilation_w - 1 - left) / dilation_w * dilation_w : left;
  const int last_w = min(left + kernel_w * dilation_w, in_width);

#ifdef POOL_AVG
  DATA4 value = (DATA4)(0);
#else
  DATA4 value = (DATA4)(-MAXFLOAT);
#endif
  int count = 0;
  for (int h = first_h; h < last_h; h += dilation_h) {
    for (int x = first_w; x < last_w; x += dilation_w, ++count) {
      const DATA4 in = READ4(input, block, x, image_top + h);
#ifdef POOL_AVG
      value += in;
#else
      value = fmax(value, in);
#endif
    }
  }
#ifdef POOL_AVG
  value /= (DATA4)(count);
#endif
  WRITE4(output, block, w, row, value);
}
