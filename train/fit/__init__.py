"""What every training run shares: the loop, one step, optimizers, checkpoints, several machines."""
