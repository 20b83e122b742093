"""Columns that can go after training with heavy-tailed noise."""
