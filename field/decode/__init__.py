"""`meterwire decode`: frames taken apart, a protocol a module."""
