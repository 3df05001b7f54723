// Sum over height and width times `scale`, for GPUs: the items of a work-group along the last
// axis share out the pixels. Global size: (channel blocks, batch, 1).

#include "buffer_gpu.h"

// Local memory holds the sums of so many items; larger groups do not share the work out.
#define MOST_ITEMS 256

typedef struct {
  int gws0, gws1, gws2;
  GPU_TENSOR(input)
  GPU_TENSOR(output)
  int pixels;
  float scale;
} Scalars;

__kernel void buffer_gpu_reduce(GPU_MEMORY GPU_OBJECT(const, input) GPU_OBJECT(, output)
                                const Scalars s) {
  __local float4 scratch[MOST_ITEMS];
  const int across = get_local_size(0) * get_local_size(1);
  const int parts = across * (int)get_local_size(2) <= MOST_ITEMS ? (int)get_local_size(2) : 1;
  const int part = get_local_id(2);
  const int item = get_local_id(1) * get_local_size(0) + get_local_id(0);
  const bool exists = get_global_id(0) < s.gws0 && get_global_id(1) < s.gws1;
  // every item of a group has to come to the barrier
  const int block = min((int)get_global_id(0), s.gws0 - 1);
  const int batch = min((int)get_global_id(1), s.gws1 - 1);
  __global const ELEMENT *input =
      GPU_START(input) + batch * s.pixels * s.input_stride + block * 4;

  float4 sum = (float4)(0);
  IN_FOURS for (int pixel = part; pixel < s.pixels; pixel += parts) {
    sum += FETCH4(input + pixel * s.input_stride);
  }
  if (parts > 1) {
    scratch[part * across + item] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    sum = (float4)(0);
    for (int other = 0; other < parts; ++other) sum += scratch[other * across + item];
  }
  if (exists && part == 0) PUT4(sum * s.scale, GPU_START(output) + batch * s.output_stride + block * 4);
}
