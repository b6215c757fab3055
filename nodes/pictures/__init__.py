"""What nodes draw."""
