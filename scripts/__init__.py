"""What `make` runs: setup, the demonstration, locks. Not part of the installed package."""
