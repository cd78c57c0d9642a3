"""Evaluation: what systems answer, what judges say of it, and how far a judge can be trusted."""
