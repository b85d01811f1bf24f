"""What was accepted stays until the centre has it. The only package of the gateway that touches SQL."""
