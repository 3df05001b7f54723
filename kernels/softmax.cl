// Softmax over the channels. Global size: (channel blocks, width, batch * height).
//   USE_LOG  the logarithm of it

__kernel void softmax(GWS3 IN(input),
                      OUT(output),
                      __private const int channels) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int count = channels % 4;
  const int whole = channels / 4;

  DATA4 rest = (DATA4)(-MAXFLOAT);
  if (count != 0) {
    const DATA4 tail = READ4(input, whole, w, row);
    rest.x = tail.x;
    if (count > 1) rest.y = tail.y;
    if (count > 2) rest.z = tail.z;
  }
  DATA4 top = rest;
  for (int i = 0; i < whole; ++i) top = fmax(top, READ4(input, i, w, row));
  const DATA_TYPE largest = fmax(fmax(top.x, top.y), fmax(top.z, top.w));

  DATA_TYPE sum = 0;
  for (int i = 0; i < whole; ++i) {
    sum += dot(exp(READ4(input, i, w, row) - (DATA4)(largest)), (DATA4)(1));
  }
  if (count > 0) sum += exp(rest.x - largest);
  if (count > 1) sum += exp(rest.y - largest);
  if (count > 2) sum += exp(rest.z - largest);

  const DATA4 shifted = READ4(input, block, w, row) - (DATA4)(largest);
#ifdef USE_LOG
  const DATA4 value = shifted - (DATA4)(log(sum));
#else
  const DATA4 value = exp(shifted) / (DATA4)(sum);
#endif
  WRITE4(output, block, w, row, first_lanes(value, channels - block * 4));
}
