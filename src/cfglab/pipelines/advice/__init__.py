"""What is published about a model family: the catalogue with its sources, and the advice that follows from it."""
