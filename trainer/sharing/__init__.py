"""Downloading adapters from the Hugging Face Hub and publishing them there, by explicit command only."""
