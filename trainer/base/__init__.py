"""Base models: from a checkpoint file, a diffusers folder, the Hub, or this package."""
