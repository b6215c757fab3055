"""Adapters on the Hugging Face Hub: fetched and published when asked, never otherwise."""
