"""Evaluating a base model with and without adapters: generation, scoring, figures and report."""
