"""A port, a protocol and a profile make a meter readable."""
