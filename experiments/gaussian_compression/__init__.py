"""Small weights of last layers replaced by noise; tails of all layers."""
