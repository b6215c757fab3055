"""Utilities shared by the packages of the trainer."""
