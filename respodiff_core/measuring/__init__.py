"""Shares and ratios computed from the labels of a classifier."""
