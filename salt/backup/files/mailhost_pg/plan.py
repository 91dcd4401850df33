"""What a restore will do."""
