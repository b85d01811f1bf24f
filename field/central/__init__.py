"""`meterwire central`: what the central engineer runs and asks."""
