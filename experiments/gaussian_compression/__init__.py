"""Small weights of last layers replaced by noise, and the tails of all layers.

Table 1 and Figures 1-3 of "Compressing Heavy-Tailed Weight Matrices for
Non-Vacuous Generalization Bounds", on any files of weights.
"""
