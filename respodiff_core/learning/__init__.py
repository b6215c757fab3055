"""How concepts are learned: RespoDiff's objective on trajectories of the model's own."""
