"""What ``benchmarks/search.py`` is made of: recording every local size, and searches replayed."""
