"""Where samples come from: each module reads one kind of data set, piece by piece."""
