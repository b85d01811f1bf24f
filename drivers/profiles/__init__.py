"""Meter models as data: one TOML file each, citing its sources. `drivers.profile` reads them."""
