"""Wire models and routes only."""
