"""Tail-index estimators on each other's models, and their coverage."""
