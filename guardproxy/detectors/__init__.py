"""MEASURE. One detector a file; they decide nothing."""
