"""Devices that can run ``mace_run``, and how to find and hold one."""
