"""A bus at hand: `meterwire scan`, `probe`, `doctor` and `sniff`, and what only they know."""
