"""DECISIONS. Pure: standard library only, no I/O."""
