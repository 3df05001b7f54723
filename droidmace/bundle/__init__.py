"""Bundles: what is shipped, what proves it, and where it is valid."""
