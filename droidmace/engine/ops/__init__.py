"""GPU ops, one file per family: shapes, tuning keys, kernels and their arguments.

Conventions (``mace/ops/opencl/image``): activations are NHWC, filters OIHW, depthwise filters 1IHW;
``padding_values`` are totals per axis, the smaller half before.
"""
