"""Measures a running proxy from outside, over HTTP: attack success and over-refusal, on your own cases."""
