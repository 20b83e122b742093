"""Certificates: bounds on the risk of one network, below 1 and below chance.

With a prior that is fixed before the data, `certificate`: a network that can be
sent in few bits (see `bounds.codes`). With one part of the training set that
serves for training alone and a rest that certifies:
  `certificate` with no bits is the test-set bound on the rest, and with the
    bits of `codes.encode_difference` a network that was trained further on it;
  `pick_to_learn` adds to the training those of the rest that it needs, and
    `compression_certificate` counts them;
  `gibbs_certificate` is that of noise about weights trained on all, whose
    distance from weights trained on the first part is a `shift_divergence`;
    `linear_noise` draws it for the outputs of a last layer.
"""

from htjax.bounds.certificates.codewords import FORMS, certificate
from htjax.bounds.certificates.divergences import LAWS, shift_divergence
from htjax.bounds.certificates.inversions import invert_binomial, invert_kl
from htjax.bounds.certificates.noisy_layers import linear_noise
from htjax.bounds.certificates.pac_bayes import gibbs_certificate
from htjax.bounds.certificates.picking import (
  Picked,
  compression_certificate,
  pick_to_learn,
)

__all__ = [
  'FORMS',
  'LAWS',
  'Picked',
  'certificate',
  'compression_certificate',
  'gibbs_certificate',
  'invert_binomial',
  'invert_kl',
  'linear_noise',
  'pick_to_learn',
  'shift_divergence',
]
