"""Whole experiments in one command each: trainings and evaluations that go on where they were stopped."""
