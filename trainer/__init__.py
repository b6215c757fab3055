"""The command line `respodiff`: what trains, examines and demonstrates adapters."""
