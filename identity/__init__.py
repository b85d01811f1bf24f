"""Keys of gateway, centre and CLI: made, loaded, wrapped, signed with. The randomness lives here."""
