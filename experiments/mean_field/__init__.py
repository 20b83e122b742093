"""The theorems on heavy-tailed mean-field networks, measured."""
