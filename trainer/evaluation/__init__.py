"""Measuring a base model with and without adapters: what is drawn, how it is judged, and what is reported of it."""
