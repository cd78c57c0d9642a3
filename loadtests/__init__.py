"""Load tests and benches."""
