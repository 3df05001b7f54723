"""The OpenCL side of the engine: device, programs and their cache, tuning, images."""
