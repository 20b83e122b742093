"""An older address of `htjax.io.checkpoints` and `htjax.io.weights`.

`save_weights` is `htjax.io.weights.save` and `load_weights` its `load`.
"""

from htjax.io.checkpoints import KEEP, restore, save
from htjax.io.weights import load as load_weights
from htjax.io.weights import save as save_weights

__all__ = ['KEEP', 'load_weights', 'restore', 'save', 'save_weights']
