"""Recipes: pydantic models of recipe files and flags."""
