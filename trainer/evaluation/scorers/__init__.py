"""Scorers of images: one module per metric, with the `Scorer` protocol of trainer/worlds/scorer.py."""
