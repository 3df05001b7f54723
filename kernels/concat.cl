// Concatenation along the channels. One of the two kernels' names is defined at build.
//   DIVISIBLE_FOUR  the first input's channels are a multiple of four

#ifdef concat_channel
// Two inputs. Global size: (output blocks, width, batch * height).
__kernel void concat_channel(GWS3 IN(input0),
                             IN(input1),
                             __private const int channels0,
                             __private const int channels1,
                             OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  const int whole = channels0 / 4;

  DATA4 value;
  if (block < whole) {
    value = READ4(input0, block, w, row);
  } else {
#ifdef DIVISIBLE_FOUR
    value = READ4(input1, block - whole, w, row);
#else
    // The first input leaves `shift` lanes in its last block; the second follows from there.
    const int shift = channels0 % 4;
    const int next = block - whole;
    const int blocks1 = (channels1 + 3) / 4;
    const DATA4 high = next < blocks1 ? READ4(input1, next, w, row) : (DATA4)(0);
    if (next == 0) {
      const DATA4 tail = READ4(input0, block, w, row);
      if (shift == 1) value = (DATA4)(tail.x, high.xyz);
      else if (shift == 2) value = (DATA4)(tail.xy, high.xy);
      else value = (DATA4)(tail.xyz, high.x);
    } else {
      const DATA4 low = READ4(input1, next - 1, w, row);
      if (shift == 1) value = (DATA4)(low.w, high.xyz);
      else if (shift == 2) value = (DATA4)(low.zw, high.xy);
      else value = (DATA4)(low.yzw, high.x);
    }
#endif
  }
  WRITE4(output, block, w, row, value);
}
#endif

#ifdef concat_channel_multi
// One of several inputs, each of whole blocks. Global size: (its blocks, width, batch * height).
__kernel void concat_channel_multi(GWS3 IN(input),
                                   __private const int block_offset,
                                   OUT(output)) {
  if (IDLE3) return;
  const int block = get_global_id(0);
  const int w = get_global_id(1);
  const int row = get_global_id(2);
  WRITE4(output, block + block_offset, w, row, READ4(input, block, w, row));
}
#endif
