"""Commands of `sluice pcs`."""
