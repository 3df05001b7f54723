// A value per channel added. Global size: (channel blocks, width, batch * height).

__kernel void bias_add(GWS3 IN(input),
                       WEIGHTS(bias),
                       OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  WRITE4(output, block, w, row, READ4(input, block, w, row) + READ_WEIGHTS(bias, block, 0));
}
