"""Errors of layers, carried on to the output and to the margin."""

import math

from htjax.bounds.arguments import like, number, positive, vector
from htjax.bounds.logarithms import log, log_product
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_count
from htjax.types import ArrayLike


def spectral_output_change(
  spectral: ArrayLike,
  changes: ArrayLike,
  *,
  input_norm: float,
  lipschitz: ArrayLike = 1.0,
  gains: ArrayLike = 1.0,
) -> Bound:
  """Change of the output when layers move, by spectral norms.

  e |x| (prod kappa_l L_l |A_l|) sum_l |U_l| / |A_l|, if |U_l| <= |A_l| / L.

  Args:
    spectral: |A_l|_2 > 0, [L].
    changes: |U_l|_2 >= 0, [L].
    input_norm: |x| > 0.
    lipschitz: L_l, Lipschitz constant of the activation before layer l, [L] or
      one number.
    gains: kappa_l, see `magnitude_sketching.low_rank_gain`; 1 without it.

  Returns:
    Bound, deterministic, one premise per layer; one term per layer.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: [SH], Lemma 2.4; [SK], Lemmas C.4, D.2 (whose stray factors are
    dropped).
  """
  spectral = vector('spectral', spectral, open_low=True)
  depth = spectral.size
  changes = like('changes', changes, depth)
  lipschitz = like('lipschitz', lipschitz, depth, open_low=True)
  gains = like('gains', gains, depth, open_low=True)
  size = positive('input_norm', input_norm)
  whole = 1 + math.log(size) + log_product(gains * lipschitz)
  whole += log_product(spectral)
  terms = {
    f'layer_{i + 1}': whole + log(u / a)
    for i, (u, a) in enumerate(zip(changes, spectral, strict=True))
  }
  premises = [
    Assumption(
      f'small change of layer {i + 1}',
      bool(u <= a / depth),
      f'change {u:.4g} must be <= |A| / L = {a / depth:.4g}',
    )
    for i, (u, a) in enumerate(zip(changes, spectral, strict=True))
  ]
  return make_bound(terms, premises)


def accumulated_error(
  epsilon: float, *, index: int, num_layers: int, smoothness: float
) -> Bound:
  """Relative error of a layer once those up to i are replaced.

  |x^_i^j - x^j| <= (i / d) epsilon |x^j|.

  Args:
    epsilon: error allowed at the output, relative, > 0.
    index: i, layers replaced so far, in [0, d]; at d it is the output's.
    num_layers: d.
    smoothness: rho_delta, premise rho >= 3 d.

  Returns:
    Bound, relative to |x^j|; it fails with probability delta / 2 of the delta
    that `noise_budget` was given.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], Lemma 2.2, eq. (56).
  """
  check_count('num_layers', num_layers)
  check_count('index', index, 0)
  number('index', index, 0, num_layers)
  rho = number('smoothness', smoothness, 0, math.inf)
  premise = Assumption(
    'smooth',
    rho >= 3 * num_layers,
    f'rho = {rho:.4g} must be >= 3 d = {3 * num_layers}',
  )
  share = positive('epsilon', epsilon) * index / num_layers
  return make_bound({'error': log(share)}, [premise])


def margin_change(error: float, *, gamma: float) -> Bound:
  """Loss of margin sqrt(2) |f - g|, and whether it stays below gamma.

  Then the classification error of g is at most the margin loss of f at gamma.

  Args:
    error: largest l_2 distance between outputs of f and g, >= 0.
    gamma: > 0.

  Returns:
    Bound, deterministic, with the premise |f - g| < gamma / sqrt(2).

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], Lemma 2.3; [SK], Definition 3.1.
  """
  error = number('error', error, 0, math.inf)
  limit = positive('gamma', gamma) / math.sqrt(2)
  premise = Assumption(
    'within the margin',
    error < limit,
    f'|f - g| = {error:.4g} must be < gamma / sqrt(2) = {limit:.4g}',
  )
  return make_bound({'change': log(error) + 0.5 * math.log(2)}, [premise])
