"""The theorems on heavy-tailed mean-field networks, measured.

"Implicit Compressibility of Overparametrized Neural Networks Trained with
Heavy-Tailed SGD", sections 3, 4 and appendices A to D: the measured rate, its
interval and the theorem's rate and constant side by side.
"""
