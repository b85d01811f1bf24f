"""`meterwire keys`: identity and trust."""
