"""Meters, wires and sites that behave, with a log of what was served."""
