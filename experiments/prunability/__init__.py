"""What makes networks prune well: accuracy against the units that are left."""
