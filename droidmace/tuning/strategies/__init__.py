"""How a search decides what to try next: one small module for each strategy."""
