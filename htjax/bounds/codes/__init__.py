"""A prefix-free code for sparse, quantised networks.

`encode` turns arrays with few distinct values into a string of bits, `decode`
turns the string back into the same arrays. No string is the beginning of
another, so their lengths obey Kraft's inequality, and 2^-length is a prior over
networks that can be fixed before any data are seen. All parts go through one
integer arithmetic coder (Witten, Neal & Cleary 1987), which costs less than 3
bits over the ideal length; where weights are kept, and which of their layer's
values they take, is coded with counts that the decoder keeps as well
(Krichevsky & Trofimov 1981), so that no table is sent.
"""

from htjax.bounds.codes.codebook import fit_codebook, tie, to_grid
from htjax.bounds.codes.codeword import Code, Decoded, decode, encode
from htjax.bounds.codes.differences import (
  decode_difference,
  encode_difference,
)

__all__ = [
  'Code',
  'Decoded',
  'decode',
  'decode_difference',
  'encode',
  'encode_difference',
  'fit_codebook',
  'tie',
  'to_grid',
]
