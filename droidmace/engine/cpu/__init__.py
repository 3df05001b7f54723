"""MACE's ops on the CPU, in numpy, one file per family."""
