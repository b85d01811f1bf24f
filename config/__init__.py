"""What a site is, read from TOML and CSV, with every mistake named at once."""
