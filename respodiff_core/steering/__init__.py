"""Steering: what is added to the model, at which positions, and for which images."""
