"""Changes to MACE graphs: another runtime, other outputs, a part of a net."""
