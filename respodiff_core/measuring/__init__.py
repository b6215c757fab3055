"""What a classifier saw: shares and ratios."""
