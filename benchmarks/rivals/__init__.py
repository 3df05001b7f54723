"""What can run the nets, each behind :class:`rivals.base.Runner`, one module each."""
