"""What every Sluice service shares."""
