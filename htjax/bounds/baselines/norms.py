"""Bounds by products of norms and by cushions, that the papers compare with.

Of the order that the cited theorems state; where they say O(..) the universal
constant is an argument, 1 by default, and is listed among the premises. All are
for fully connected ReLU networks without biases, inputs |x| <= B, margin gamma.
"""

import math

import numpy as np

from htjax.bounds.arguments import like, number, positive, probability, vector
from htjax.bounds.logarithms import log, log_product, log_sum
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_margin
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike

# 'authors': what the program behind [SK], Tables 2 and 3 prints for the three.
NORM_VARIANTS = ('corrected', 'authors')


def neyshabur_2015(
  margins: ArrayLike,
  *,
  gamma: float,
  frobenius: ArrayLike,
  input_norm: float,
  delta: float,
  constant: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk by the product of Frobenius norms.

  C 2^L B prod |A_l|_F / (gamma sqrt(n)), and 3 sqrt(ln(2 / delta) / (2 n)).

  The first is twice the Rademacher complexity 2^(L-1) B prod |A_l|_F / sqrt(n)
  over the margin, for one output; more classes go into C. The second is how far
  the empirical complexity and the ramp loss may lie from their means. authors:
  prod |A_l|_F^2 / gamma^2 and nothing else, which bounds no risk.

  Args:
    margins: of the network on its n training examples, [n].
    gamma: > 0.
    frobenius: |A_l|_F >= 0, [L].
    input_norm: B >= max |x|, > 0.
    delta: in (0, 1).
    constant: C > 0; 1 is proved for a single output.
    variant: 'corrected' or 'authors'.

  Returns:
    Bound with terms empirical, complexity and deviation; 'authors': complexity
    alone, and a premise that does not hold.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [Neyshabur2015], Theorem 1 with p = q = 2; [SK], Table 2.
  """
  check_choice('variant', variant, NORM_VARIANTS)
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  norms = vector('frobenius', frobenius)
  if variant == 'authors':
    return _square(2 * log_product(norms), gamma)
  size = norms.size * math.log(2) + log_product(norms)
  size += math.log(positive('input_norm', input_norm) / gamma)
  deviation = math.log(2 / probability('delta', delta)) / (2 * n)
  terms = {
    'empirical': log(empirical),
    'complexity': _front(constant) + size - 0.5 * math.log(n),
    'deviation': math.log(3) + 0.5 * math.log(deviation),
  }
  return make_bound(terms, [_constant(), fixed_margin()], failure=delta)


def neyshabur_2017(
  margins: ArrayLike,
  *,
  gamma: float,
  spectral: ArrayLike,
  frobenius: ArrayLike,
  width: ArrayLike,
  input_norm: float,
  delta: float,
  constant: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk by spectral and Frobenius norms, from PAC-Bayes.

  C sqrt((B^2 L^2 h ln(L h) prod |A_l|_2^2 sum_l |A_l|_F^2 / |A_l|_2^2 +
  ln(L n / delta)) / (gamma^2 n)). authors: prod |A_l|_2^2 sum_l h_l |A_l|_F^2 /
  |A_l|_2^2 / gamma^2 and nothing else, h_l the inputs of layer l.

  Args:
    margins: of the network on its n training examples, [n].
    gamma: > 0.
    spectral: |A_l|_2 > 0, [L].
    frobenius: |A_l|_F > 0, [L].
    width: h, an upper bound on the number of units in a layer; 'authors': h_l,
      [L] or one number.
    input_norm: B >= max |x|, > 0.
    delta: in (0, 1).
    constant: C > 0, universal and unknown.
    variant: 'corrected' or 'authors'.

  Returns:
    Bound with terms empirical and complexity; 'authors': complexity alone, and
    a premise that does not hold.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [Neyshabur2018], Theorem 1; [SK], Table 2.
  """
  check_choice('variant', variant, NORM_VARIANTS)
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  tops, norms = _norms(spectral, frobenius)
  if variant == 'authors':
    sizes = like('width', width, tops.size, open_low=True)
    return _square(_ranked(tops, norms, sizes), gamma)
  check_count('width', width)
  depth, h = tops.size, number('width', width)
  number('width', depth * h, 2, math.inf)
  inside = 2 * math.log(positive('input_norm', input_norm) * depth)
  inside += math.log(h) + math.log(math.log(depth * h))
  inside += 2 * log_product(tops)
  inside += log_sum(2 * (np.log(norms) - np.log(tops)))
  rest = math.log(math.log(depth * n / probability('delta', delta)))
  total = float(np.logaddexp(inside, rest))
  terms = {
    'empirical': log(empirical),
    'complexity': _front(constant)
    + 0.5 * (total - math.log(n))
    - math.log(gamma),
  }
  return make_bound(terms, [_constant(), fixed_margin()], failure=delta)


def bartlett_2017(
  margins: ArrayLike,
  *,
  gamma: float,
  spectral: ArrayLike,
  two_one: ArrayLike,
  width: int,
  data_norm: float,
  delta: float,
  lipschitz: ArrayLike = 1.0,
  constant: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk by spectral norms and distances from a reference.

  C (|X|_F R_A ln(h) / (gamma n) + sqrt(ln(1 / delta) / n)).

  R_A = (prod rho_l |A_l|_2) (sum_l s_l^(2/3))^(3/2) with s_l = |(A_l -
  M_l)^T|_{2,1} / |A_l|_2. authors: prod |A_l|_2^2 sum_l T_l^2 / |A_l|_2^2 /
  gamma^2 and nothing else, where T_l is passed as `two_one` and was the
  Frobenius norm.

  Args:
    margins: of the network on its n training examples, [n].
    gamma: > 0.
    spectral: |A_l|_2 > 0, [L].
    two_one: norms of the layers less reference matrices M_l chosen before the
      data (0, or the initialisation), [L]: `spectral.layer_norms`.
    width: h >= 2, the largest dimension of any layer, input included.
    data_norm: |X|_F = (sum_i |x_i|^2)^(1/2) > 0.
    delta: in (0, 1).
    lipschitz: rho_l > 0, of the activations, [L] or one number.
    constant: C > 0, universal, in print with logarithms of the other numbers.
    variant: 'corrected' or 'authors'.

  Returns:
    Bound with terms empirical, complexity and deviation; 'authors': complexity
    alone, and a premise that does not hold.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [Bartlett2017], Theorem 1.1; [SK], Table 2.
  """
  check_choice('variant', variant, NORM_VARIANTS)
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  tops = vector('spectral', spectral, open_low=True)
  sums = like('two_one', two_one, tops.size)
  if variant == 'authors':
    return _square(_ranked(tops, sums, np.ones(tops.size)), gamma)
  slopes = like('lipschitz', lipschitz, tops.size, open_low=True)
  check_count('width', width, 2)
  size = log_product(slopes) + log_product(tops)
  size += 1.5 * log(float(np.sum((sums / tops) ** (2 / 3))))
  size += math.log(positive('data_norm', data_norm)) - math.log(gamma * n)
  deviation = -math.log(probability('delta', delta)) / n
  terms = {
    'empirical': log(empirical),
    'complexity': _front(constant) + size + math.log(math.log(width)),
    'deviation': _front(constant) + 0.5 * math.log(deviation),
  }
  return make_bound(terms, [_constant()], failure=delta)


def arora_2018(
  margins: ArrayLike,
  *,
  gamma: float,
  cushions: ArrayLike,
  interlayer: ArrayLike,
  contraction: float,
  smoothness: float,
  output_norm: float,
  delta: float,
  constant: float = 1.0,
) -> Bound:
  """Risk by cushions, from compression.

  C sqrt(c^2 L^2 max |f(x)|^2 sum_i 1 / (mu_i mu_i->)^2 / (gamma^2 n)).

  Args:
    margins: of the network on its n training examples, [n].
    gamma: > 0.
    cushions: mu_i > 0, [L], `cushions.layer_cushions`.
    interlayer: mu_i-> > 0, [L], `cushions.interlayer_cushions(..).minimal`.
    contraction: c >= 1, `cushions.activation_contraction`.
    smoothness: rho_delta, `cushions.interlayer_smoothness`; premise rho >=
      3 L. May be infinite.
    output_norm: max |f(x)| on the training set, > 0.
    delta: in (0, 1), of the statement; it enters the logarithms in C.
    constant: C > 0, in print with logarithms.

  Returns:
    Bound with terms empirical and complexity.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [Arora2018], Theorem 4.1.
  """
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  own = vector('cushions', cushions, open_low=True)
  onward = like('interlayer', interlayer, own.size, open_low=True)
  c = number('contraction', contraction, 1, math.inf, open_high=True)
  rho = number('smoothness', smoothness, 0, math.inf)
  size = math.log(c * own.size * positive('output_norm', output_norm) / gamma)
  size += 0.5 * log_sum(-2 * (np.log(own) + np.log(onward)))
  premises = [
    Assumption(
      'smooth',
      rho >= 3 * own.size,
      f'rho = {rho:.4g} must be >= 3 L = {3 * own.size}',
    ),
    _constant(),
    fixed_margin(),
  ]
  terms = {
    'empirical': log(empirical),
    'complexity': _front(constant) + size - 0.5 * math.log(n),
  }
  return make_bound(terms, premises, failure=probability('delta', delta))


def _front(constant: float) -> float:
  return math.log(positive('constant', constant))


def _constant() -> Assumption:
  return Assumption(
    'constant', None, 'the universal constant is the one that was passed'
  )


def _square(log_size: float, gamma: float) -> Bound:
  """A square over gamma^2, not over n and not rooted, as [SK] compares."""
  premise = Assumption(
    'a bound',
    False,
    'the square is neither divided by the number of examples nor rooted',
  )
  return make_bound({'complexity': log_size - 2 * math.log(gamma)}, [premise])


def _ranked(tops: np.ndarray, norms: np.ndarray, sizes: np.ndarray) -> float:
  """ln of prod S^2 sum h T^2 / S^2."""
  ratios = [2 * (log(t) - log(s)) for t, s in zip(norms, tops, strict=True)]
  return 2 * log_product(tops) + log_sum(np.log(sizes) + np.array(ratios))


def _norms(
  spectral: ArrayLike, frobenius: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  tops = vector('spectral', spectral, open_low=True)
  return tops, like('frobenius', frobenius, tops.size, open_low=True)


def log_norm_products(
  *,
  spectral: ArrayLike,
  frobenius: ArrayLike,
  two_one: ArrayLike,
  widths: ArrayLike,
  gamma: float,
  num_samples: int,
) -> dict[str, float]:
  """Natural logarithms of three norm bounds in the form often compared.

  Products of norms over the margin and sqrt(n), without inputs, logarithms,
  depth, constants or 2^L: no bounds, but what grows with the networks. With S,
  F and T the spectral, Frobenius and (2, 1) norms,
    neyshabur_2015  prod F,
    neyshabur_2017  prod S sqrt(sum h F^2 / S^2),
    bartlett_2017   prod S (sum (T / S)^(2/3))^(3/2).

  Args:
    spectral: S_l > 0, [L].
    frobenius: F_l > 0, [L].
    two_one: T_l >= 0, [L].
    widths: h_l > 0, outputs of the layers, [L].
    gamma: > 0.
    num_samples: n.

  Returns:
    {name: logarithm}.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: [Neyshabur2015]; [Neyshabur2018]; [Bartlett2017].
  """
  tops = vector('spectral', spectral, open_low=True)
  depth = tops.size
  norms = like('frobenius', frobenius, depth, open_low=True)
  sums = like('two_one', two_one, depth)
  sizes = like('widths', widths, depth, open_low=True)
  check_count('num_samples', num_samples)
  scale = -math.log(positive('gamma', gamma) * math.sqrt(num_samples))
  front = log_product(tops) + scale
  shares = [2 / 3 * (log(t) - log(s)) for t, s in zip(sums, tops, strict=True)]
  return {
    'neyshabur_2015': log_product(norms) + scale,
    'neyshabur_2017': 0.5 * _ranked(tops, norms, sizes) + scale,
    'bartlett_2017': front + 1.5 * log_sum(np.array(shares)),
  }
