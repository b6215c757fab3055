"""Base models as training needs them: from a checkpoint file, a diffusers folder, the Hub, or the package itself."""
