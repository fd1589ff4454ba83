"""What programs need to speak to Sluice."""
