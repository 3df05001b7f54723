"""An inference engine on PyOpenCL that behaves as MACE's ``mace_run`` (v1.1.1).

Started as ``python -m droidmace.engine FLAGS``. It knows no ADB: an emulated phone starts it as a
process, a host sees its files and its output. Facts about MACE's behaviour are cited by the file of
XiaoMi/mace they were read from.
"""
