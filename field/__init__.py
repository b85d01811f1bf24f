"""The field engineer's tool: the meterwire command."""
