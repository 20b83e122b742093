"""Nine models of other people's kinds: noise, pruning, fine-tuning, files."""
