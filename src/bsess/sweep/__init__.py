"""Finding what is mine and orphaned, and ending just that."""
