"""Networks that prune well: accuracy against the units that are left."""
