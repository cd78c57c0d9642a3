"""Makes the checkpoint that the gateway serves: questions → rubrics → GRPO → export → evaluation (docs/training.md)."""
