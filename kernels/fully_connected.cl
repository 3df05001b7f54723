// Fully connected layer: four outputs per work-item over a whole input of H*W*C.
// Global size: (output blocks, batch).

__kernel void fully_connected_width(GWS2 IN(input),
                                    WEIGHTS(weight),
                                    BIAS_ARGUMENT OUT(output),
                                    __private const float max_limit,
                                    __private const float coefficient,
                                    __private const int in_height,
                                    __private const int in_width,
                                    __private const int in_channels,
                                    __private const int out_channels) {
  if (IDLE2) return;
  const int block = get_global_id(0);
  const int batch = get_global_id(1);
  const int in_blocks = (in_channels + 3) / 4;
  // Rows beyond the last output read it again; their lanes are undefined for readers.
  const int last = out_channels - 1;
  const int row0 = block * 4;
  const int row1 = min(row0 + 1, last);
  const int row2 = min(row0 + 2, last);
  const int row3 = min(row0 + 3, last);

  DATA4 out = BIAS_AT(block);
  int column = 0;
  for (int in_block = 0; in_block < in_blocks; ++in_block) {
    for (int h = 0; h < in_height; ++h) {
      for (int w = 0; w < in_width; ++w, ++column) {
        const DATA4 in = READ4(input, in_block, w, batch * in_height + h);
        out.x += dot(in, READ_WEIGHTS(weight, column, row0));
        out.y += dot(in, READ_WEIGHTS(weight, column, row1));
        out.z += dot(in, READ_WEIGHTS(weight, column, row2));
        out.w += dot(in, READ_WEIGHTS(weight, column, row3));
      }
    }
  }
  WRITE4(output, block, 0, batch, activate(out, max_limit, coefficient));
}
