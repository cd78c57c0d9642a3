"""The five stages, one async function each. The model is a parameter."""
