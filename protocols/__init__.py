"""Bytes to values and back. No I/O, no clock, no randomness: what is needed comes in as an argument."""
