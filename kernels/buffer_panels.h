// Products of matrices on a CPU: a work-item keeps TILE rows by WIDTH * 16 columns in registers.
// The right factor lies in panels of so many columns, [panel][row][column], with zeros for columns
// that do not exist.

#define PANEL (WIDTH * 16)
#define FOR_TILE UNROLL(TILE) for (int i = 0; i < TILE; ++i)
#define FOR_WIDTH UNROLL(WIDTH) for (int j = 0; j < WIDTH; ++j)

// sums += in . filter, over the input channels of one tap, which begin at in[i] + start; moves
// the filter on to the next.
#define MULTIPLY_TAP(sums, in, start, filter, in_channels)                \
  for (int c = start; c < (start) + in_channels; ++c) {                   \
    float16 weight[WIDTH];                                                \
    FOR_WIDTH weight[j] = LOAD16(filter + j * 16);                        \
    filter += PANEL;                                                      \
    FOR_TILE {                                                            \
      const float16 value = (float16)(LOAD(in[i] + c));                   \
      FOR_WIDTH sums[i][j] = mad(value, weight[j], sums[i][j]);           \
    }                                                                     \
  }
