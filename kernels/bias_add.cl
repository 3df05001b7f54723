// A value per channel added. Global size: (channel blocks, width, batch * height).

__kernel void bias_add(GWS3 __read_only image2d_t input,
                       __read_only image2d_t bias,
                       __write_only image2d_t output) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int x = block * gws1 + get_global_id(1);
  const int row = get_global_id(2);
  WRITE(output, x, row, READ(input, x, row) + READ(bias, block, 0));
}
