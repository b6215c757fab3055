"""What is asked for: models of recipe files and flags."""
