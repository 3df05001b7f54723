"""What a measurement proves: statistics of paired samples, and the verdict."""
