"""Training on many GPUs and machines: verl on Ray, with the same rubrics and the same reward (docs/training.md)."""
