"""droidmace: tune, prove and ship MACE's compiled OpenCL programs for Android phones."""

__version__ = "0.1.0"
