"""Experiments of several trainings and evaluations, one command each; a stopped one resumes."""
