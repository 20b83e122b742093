"""Tail indices and prunability of networks over step size / batch size."""
