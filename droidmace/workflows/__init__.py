"""The stories: what happens in which order, each step returning a value."""
