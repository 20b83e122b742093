"""Bounds for networks pruned by magnitude, beside others."""
