"""The reviewable data of the red-flag layer (patterns, texts, numbers) and the matcher that reads the patterns."""
