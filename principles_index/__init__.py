"""The HealthPrinciples and the FAISS index that finds the ones that matter for a conversation."""
