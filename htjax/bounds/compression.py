"""Bounds by counting what a compression can produce.

"Compressing Heavy-Tailed Weight Matrices for Non-Vacuous Generalization
Bounds": entries up to a threshold tau are replaced by Gaussian noise of
variance t, the larger ones are kept and counted. Tail indices are exponents of
the survival function: the density of a power law falls as w^-(alpha + 1).
"""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.common import (
  VARIANTS,
  Assumption,
  Bound,
  binomial_log_sf,
  empirical_margin_loss,
  exp,
  like,
  log,
  log_binomial,
  log_product,
  make_bound,
  number,
  positive,
  probability,
  vector,
)
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike

P1_VARIANTS = (*VARIANTS, 'centred')
BUDGET_VARIANTS = (*VARIANTS, 'paper_appendix')
MOMENT_VARIANTS = ('corrected', 'symmetric', 'paper')


def code_length(
  kept: Sequence[int],
  sizes: Sequence[int],
  num_values: int | Sequence[int],
  *,
  positions: bool = True,
) -> float:
  """ln of the number of sparse networks: sum_l k_l ln r_l + ln C(N_l, k_l).

  Args:
    kept: k_l, entries that are not zero, [L].
    sizes: N_l, entries of each layer, [L].
    num_values: r_l, values that an entry can take, one number or [L].
    positions: whether positions are counted; the printed bounds leave them out,
      as if they were known before the data.

  Returns:
    float, in nats. The counts k_l themselves are taken as known beforehand.

  Raises:
    ValueError: for k_l > N_l, counts out of range, or different lengths.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (2);
    "Generalization Bounds for Magnitude-Based Pruning ...", Lemma E.1.
  """
  if isinstance(num_values, int | np.integer):
    num_values = [num_values] * len(kept)
  if not len(kept) == len(sizes) == len(num_values) or not kept:
    raise ValueError(
      'kept, sizes and num_values must have one entry per layer, got '
      f'{len(kept)}, {len(sizes)} and {len(num_values)}'
    )
  total = 0.0
  for k, n, r in zip(kept, sizes, num_values, strict=True):
    check_count('sizes', n)
    check_count('kept', k, 0)
    check_count('num_values', r)
    number('kept', k, 0, n)
    total += k * math.log(r) + (log_binomial(n, k) if positions else 0.0)
  return total


def finite_class(
  margins: ArrayLike, *, gamma: float, log_count: float, delta: float
) -> Bound:
  """R_0(g) <= R^_gamma(f) + sqrt((ln J + ln(1 / delta)) / (2 n)).

  g is one of J functions that were fixed before the data, and no margin of g
  falls short of that of f by gamma or more.

  Args:
    margins: of f on its n training examples, [n].
    gamma: >= 0; 0 if they are the margins of g itself.
    log_count: ln J >= 0.
    delta: in (0, 1).

  Returns:
    Bound with terms empirical and complexity; it fails with probability delta.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Theorem E.1;
    "Compressing Heavy-Tailed Weight Matrices ...", eq. (2).
  """
  gamma = number('gamma', gamma, 0, math.inf, open_high=True)
  empirical, n = empirical_margin_loss(margins, log(gamma))
  bits = number('log_count', log_count, 0, math.inf, open_high=True)
  bits -= math.log(probability('delta', delta))
  terms = {
    'empirical': log(empirical),
    'complexity': 0.5 * math.log(bits / (2 * n)),
  }
  premises = [
    Assumption(
      'fixed code', None, 'the class was fixed before the data were seen'
    ),
    Assumption(
      'compressible', None, f'compression costs less than {gamma:.4g} of margin'
    ),
  ]
  details = {'log_count': float(log_count), 'num_samples': float(n)}
  return make_bound(terms, premises, failure=delta, details=details)


def bilinear_tail(
  epsilon: float,
  *,
  threshold: float,
  noise_variance: float,
  variant: str = 'corrected',
) -> Bound:
  """P(|u^T (A - sqrt(t) G) v| > epsilon |u| |v|), A the entries up to tau.

  corrected: 2 exp(-epsilon^2 / (2 (tau^2 + t))), for entries symmetric about 0.
  centred: the same with tau^2 / 4, once the mean of A is subtracted.
  paper: 3 exp(-epsilon^2 / (2 (tau^2 + t))), claimed of positive entries too,
  for which u^T A v grows with the size of the matrix.

  Args:
    epsilon: > 0.
    threshold: tau > 0.
    noise_variance: t >= 0.
    variant: 'corrected', 'centred' or 'paper'.

  Returns:
    Bound on a probability, not clipped at 1.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Proposition 1.1.
  """
  check_choice('variant', variant, P1_VARIANTS)
  tau, t = positive('threshold', threshold), noise_variance
  t = number('noise_variance', t, 0, math.inf, open_high=True)
  proxy = tau**2 * (0.25 if variant == 'centred' else 1.0) + t
  exponent = -(positive('epsilon', epsilon) ** 2) / (2 * proxy)
  front = 3 if variant == 'paper' else 2
  meaning = {
    'corrected': 'the law of the entries is symmetric about 0',
    'centred': 'the mean matrix has been subtracted',
    'paper': 'as printed, any power law; false unless it has mean 0',
  }
  premises = [
    Assumption('independent entries', None, 'entries are independent'),
    Assumption('mean zero', None, meaning[variant]),
  ]
  return make_bound({'tail': math.log(front) + exponent}, premises)


def noise_budget(
  epsilon: float, eta: float, *, variant: str = 'corrected'
) -> float:
  """tau^2 + t that keeps the probability of `bilinear_tail` at eta.

  corrected: epsilon^2 / (2 ln(2 / eta)). paper: epsilon^2 / ln(3 / eta), twice
  what the printed inequality allows; paper_appendix: twice that again.

  Args:
    epsilon: > 0.
    eta: in (0, 1).
    variant: 'corrected', 'paper' or 'paper_appendix'.

  Returns:
    float > 0.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Proposition 1.1,
    Algorithm 1 and Appendix A.
  """
  check_choice('variant', variant, BUDGET_VARIANTS)
  square = positive('epsilon', epsilon) ** 2
  eta = probability('eta', eta)
  if variant == 'corrected':
    return square / (2 * math.log(2 / eta))
  return square * (1 if variant == 'paper' else 2) / math.log(3 / eta)


def layer_error(
  *,
  threshold: float,
  noise_variance: float,
  delta: float,
  num_pairs: int,
  num_rows: int,
) -> float:
  """epsilon with |U (W - W(t)) x| <= epsilon |U|_F |x| for all pairs (U, x).

  Args:
    threshold: tau > 0.
    noise_variance: t >= 0.
    delta: failure probability, in (0, 1).
    num_pairs: m, pairs of a matrix U and a vector x, fixed beforehand.
    num_rows: n, rows of U.

  Returns:
    float: sqrt(2 (tau^2 + t) ln(2 m n / delta)).

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Lemma 2.1.
  """
  check_count('num_pairs', num_pairs)
  check_count('num_rows', num_rows)
  t = number('noise_variance', noise_variance, 0, math.inf, open_high=True)
  proxy = positive('threshold', threshold) ** 2 + t
  events = num_pairs * num_rows / probability('delta', delta)
  return math.sqrt(2 * proxy * math.log(2 * events))


def heavy_fraction(alpha: float, threshold_ratio: float) -> float:
  """P(|W| > tau) = (w_m / tau)^alpha for a power law on [w_m, infinity).

  It falls with alpha at a fixed threshold, while the kept fraction at a fixed
  relative error rises with alpha: which of the two is meant decides whether
  heavy tails help.

  Args:
    alpha: tail index > 0.
    threshold_ratio: tau / w_m >= 1.

  Returns:
    float in (0, 1].

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (5).
  """
  ratio = number(
    'threshold_ratio', threshold_ratio, 1, math.inf, open_high=True
  )
  return ratio ** -positive('alpha', alpha)


def nonzero_tail(count: float, *, num_entries: int, rate: float) -> Bound:
  """P(at least `count` of n entries are kept) <= exp(-n D(k / n || p)).

  With n the entries of a matrix this is eq. (6), of a row eq. (11). It is a
  bound for k > n p only; `log_exact` in the details is the binomial
  probability itself, which is smaller and needs no premise.

  Args:
    count: k in (0, n], real.
    num_entries: n >= 1.
    rate: p in (0, 1), probability that one entry is kept.

  Returns:
    Bound on a probability, with the premise k > n p.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Proposition 1.2,
    eqs. (6), (11), (39), (48).
  """
  check_count('num_entries', num_entries)
  k = number('count', count, 0, num_entries, open_low=True)
  n, p = num_entries, probability('rate', rate)
  exponent = k * math.log(n * p / k)
  if k < n:
    exponent += (n - k) * (math.log1p(-p) - math.log1p(-k / n))
  premise = Assumption(
    'more than the mean', k > n * p, f'k = {k:.6g} must be > n p = {n * p:.6g}'
  )
  exact = binomial_log_sf(math.ceil(k), n, p)
  return make_bound({'tail': exponent}, [premise], details={'log_exact': exact})


def heavy_second_moment(
  x: ArrayLike,
  *,
  alpha: float,
  minimum: float,
  threshold: float,
  variant: str = 'corrected',
) -> float:
  """E (B x)_i^2 for B the power-law entries above tau; infinite for alpha <= 2.

  corrected: E_2 |x|^2 + E_1^2 ((sum x)^2 - |x|^2) for positive entries, with
  E_q = alpha w_m^alpha tau^(q - alpha) / (alpha - q). symmetric: E_2 |x|^2.
  paper: E_2 |x|^2 for positive entries, without the cross terms.

  Args:
    x: [N_2].
    alpha: tail index > 0.
    minimum: w_m > 0.
    threshold: tau >= w_m.
    variant: 'corrected', 'symmetric' or 'paper'.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (10).
  """
  check_choice('variant', variant, MOMENT_VARIANTS)
  x = vector('x', x, -math.inf)
  alpha, low = positive('alpha', alpha), positive('minimum', minimum)
  tau = number('threshold', threshold, low, math.inf, open_high=True)
  square = float(np.sum(x**2))
  if alpha <= 2:
    return math.inf if square > 0 else 0.0
  first, second = (
    alpha * tau**q * (low / tau) ** alpha / (alpha - q) for q in (1, 2)
  )
  cross = float(np.sum(x)) ** 2 - square
  return second * square + (variant == 'corrected') * first**2 * cross


def stable_density_tail(w: float, alpha: float, *, scale: float = 1.0) -> float:
  """alpha c^alpha c_alpha w^-(alpha + 1), to which a stable density tends.

  c_alpha = sin(pi alpha / 2) Gamma(alpha) / pi; one side, symmetric law.

  Args:
    w: > 0, large beside the scale.
    alpha: in (0, 2).
    scale: c > 0, E exp(itX) = exp(-|c t|^alpha).

  Returns:
    float > 0.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (12).
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True, open_high=True)
  w, scale = positive('w', w), positive('scale', scale)
  return alpha * _tail_constant(alpha) * (scale / w) ** alpha / w


def bracket_rate(index: float, alpha: float, *, base: float) -> float:
  """P(c^i < W < c^(i + 1)) = c_alpha c^(-alpha (i - 1)) (1 - c^-alpha).

  For a symmetric stable W of scale c, one side, in the limit of large c^i. At
  the values of the paper's figure, c^i <= 3.7, the limit is not reached.

  Args:
    index: i >= 0.
    alpha: in (0, 2).
    base: c > 1.

  Returns:
    float > 0, which may exceed 1 outside the limit.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eqs. (13)-(14).
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True, open_high=True)
  index = number('index', index, 0, math.inf, open_high=True)
  c = number('base', base, 1, math.inf, open_low=True, open_high=True)
  size = c ** (-alpha * (index - 1))
  return _tail_constant(alpha) * size * -math.expm1(-alpha * math.log(c))


def bracket_tail(
  index: float, alpha: float, *, base: float, top: float, row_length: int
) -> Bound:
  """P(c^(M - i) entries of size c^i in a row) by `nonzero_tail`.

  Args:
    index: i in [0, M].
    alpha: in (0, 2).
    base: c > 1.
    top: M >= 0.
    row_length: N.

  Returns:
    Bound; for small c the premise c^(M - i) > N p fails for most i, and the
    number is then no bound on anything.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eqs. (15)-(16).
  """
  index = number('index', index, 0, number('top', top, 0, math.inf))
  rate = bracket_rate(index, alpha, base=base)
  return nonzero_tail(base ** (top - index), num_entries=row_length, rate=rate)


def compressed_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  weights: Sequence[ArrayLike],
  cushions: ArrayLike,
  interlayer: ArrayLike,
  contraction: float,
  smoothness: float,
  output_norm: float,
  delta: float,
  num_values: int,
  noise_fraction: float = 0.5,
  positions: bool = True,
  variant: str = 'corrected',
) -> Bound:
  """Risk once small entries of a network are replaced by noise from a seed.

  epsilon = gamma / (sqrt(2) max |f|); epsilon_i = epsilon mu_i mu_i-> /
  (6 c d); tau_i^2 + t_i = `noise_budget`(epsilon_i, delta / (2 d^2 h m));
  k_i = #{|W_i| > tau_i}; then `finite_class` with the k_i counted. The
  thresholds are so low that k_i is nearly every entry unless the weights are
  small: the fraction kept is in the details.

  Args:
    margins: of the network on its m training examples, [m].
    gamma: > 0.
    weights: the layers, [fan_in, fan_out] or [height, width, in, out], [d]; h
      is the largest size of the last axis.
    cushions: mu_i > 0, [d], see `ingredients.layer_cushions`.
    interlayer: mu_i-> > 0, [d], `ingredients.interlayer_cushions(..).minimal`.
    contraction: c >= 1, see `ingredients.activation_contraction`.
    smoothness: rho_delta, see `ingredients.interlayer_smoothness`; premise
      rho >= 3 d. May be infinite.
    output_norm: max |f(x)| on the training set, > 0.
    delta: in (0, 1), half for the noise and half for the class.
    num_values: r, values that a kept entry can take.
    noise_fraction: t_i as a fraction of the budget, in [0, 1).
    positions: whether positions are counted; in print they are not.
    variant: 'corrected' or 'paper', the latter with the printed budget.

  Returns:
    Bound with terms empirical and complexity. The network is also assumed
    balanced, with |W_i|_F >= 1, which is checked.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Theorem 2.
  """
  check_choice('variant', variant, VARIANTS)
  arrays = [np.abs(np.asarray(w, np.float64)) for w in weights]
  cushions = vector('cushions', cushions, open_low=True)
  depth = cushions.size
  interlayer = like('interlayer', interlayer, depth, open_low=True)
  shapes = [w.shape for w in arrays]
  if len(arrays) != depth or any(
    len(s) not in (2, 4) or 0 in s for s in shapes
  ):
    raise ValueError(
      f'weights must be {depth} kernels, one per cushion, [fan_in, fan_out] or '
      f'[height, width, in, out], got shapes {shapes}'
    )
  c = number('contraction', contraction, 1, math.inf, open_high=True)
  rho = number('smoothness', smoothness, 0, math.inf)
  gamma, delta = positive('gamma', gamma), probability('delta', delta)
  part = number('noise_fraction', noise_fraction, 0, 1, open_high=True)
  epsilon = gamma / (math.sqrt(2) * positive('output_norm', output_norm))
  num_samples = empirical_margin_loss(margins, 0.0)[1]
  width = max(w.shape[-1] for w in arrays)
  eta = delta / (2 * depth**2 * width * num_samples)
  kept = []
  for i, w in enumerate(arrays):
    share = epsilon * cushions[i] * interlayer[i] / (6 * c * depth)
    budget = noise_budget(share, eta, variant=variant)
    kept.append(int(np.sum(w > math.sqrt(budget * (1 - part)))))
  sizes = [w.size for w in arrays]
  length = code_length(kept, sizes, num_values, positions=positions)
  bound = finite_class(margins, gamma=gamma, log_count=length, delta=delta / 2)
  norms = np.array([np.linalg.norm(w) for w in arrays])
  premises = [
    Assumption(
      'small error', epsilon < 1, f'epsilon = {epsilon:.4g} must be < 1'
    ),
    Assumption(
      'smooth', rho >= 3 * depth, f'rho = {rho:.4g} must be >= {3 * depth}'
    ),
    Assumption(
      'balanced',
      bool(np.all(norms >= 1) and np.ptp(norms) <= 1e-4 * norms.max()),
      f'Frobenius norms {norms.min():.4g}..{norms.max():.4g} must be equal '
      'and >= 1',
    ),
    Assumption('symmetric weights', None, 'entries independent and symmetric'),
    Assumption('rounding', None, f'kept entries take {num_values} values'),
    Assumption('fixed code', None, 'seed, thresholds and counts known before'),
  ]
  details = bound.details | {
    f'kept_fraction_{i + 1}': k / n
    for i, (k, n) in enumerate(zip(kept, sizes, strict=True))
  }
  return make_bound(bound.terms, premises, failure=delta, details=details)


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

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Lemma 2.3.
  """
  error = number('error', error, 0, math.inf)
  limit = positive('gamma', gamma) / math.sqrt(2)
  premise = Assumption(
    'within the margin',
    error < limit,
    f'|f - g| = {error:.4g} must be < gamma / sqrt(2) = {limit:.4g}',
  )
  return make_bound({'change': log(error) + 0.5 * math.log(2)}, [premise])


def accumulated_error(
  epsilon: float, *, index: int, num_layers: int, smoothness: float
) -> Bound:
  """|x^_i^j - x^j| <= (i / d) epsilon |x^j| once layers up to i are replaced.

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

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Lemma 2.2, eq. (56).
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


def balanced_norm(
  *,
  contraction: float,
  output_norm: float,
  input_norm: float,
  cushions: ArrayLike,
) -> Bound:
  """prod |W_i|_F <= c^d |f(x)| / (|x| prod mu_i), beta^d if balanced.

  Args:
    contraction: c >= 1.
    output_norm: |f(x)| > 0, at one training example.
    input_norm: |x| > 0, of the same example.
    cushions: mu_i > 0, [d].

  Returns:
    Bound, deterministic.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (97).
  """
  cushions = vector('cushions', cushions, open_low=True)
  c = number('contraction', contraction, 1, math.inf, open_high=True)
  value = cushions.size * math.log(c) - log_product(cushions)
  value += math.log(positive('output_norm', output_norm))
  return make_bound(
    {'norm': value - math.log(positive('input_norm', input_norm))}
  )


def discretization_change(
  resolution: float,
  *,
  num_parameters: int,
  frobenius: float,
  contraction: float,
  output_norm: float,
  cushions: ArrayLike,
  tau: float | None = None,
) -> Bound:
  """Change sqrt(q) nu K / beta when q parameters are known to accuracy nu.

  K = e^2 c^d d |f| / prod mu_i. This bounds the change of the output; of the
  ramp loss of width tau it is sqrt(2) / tau times that. (The 0-1 margin loss,
  for which it is printed, jumps.)

  Args:
    resolution: nu > 0.
    num_parameters: q.
    frobenius: beta > 0, the Frobenius norm of every layer.
    contraction: c >= 1.
    output_norm: |f(x)| > 0.
    cushions: mu_i > 0, [d].
    tau: width of the ramp, > 0; None for the output itself.

  Returns:
    Bound, with `log_constant` = ln K in the details.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eqs. (98)-(101).
  """
  check_count('num_parameters', num_parameters)
  depth = vector('cushions', cushions, open_low=True).size
  norm = balanced_norm(
    contraction=contraction,
    output_norm=output_norm,
    input_norm=1.0,
    cushions=cushions,
  )
  log_k = 2 + norm.log_value + math.log(depth)
  value = 0.5 * math.log(num_parameters) + log_k
  value += math.log(positive('resolution', resolution))
  value -= math.log(positive('frobenius', frobenius))
  if tau is not None:
    value += 0.5 * math.log(2) - math.log(positive('tau', tau))
  return make_bound({'change': value}, details={'log_constant': log_k})


def log_covering(
  num_parameters: int, *, log_constant: float, resolution: float
) -> float:
  """Logarithm q ln(2 q K / epsilon) of a covering number of the loss.

  Args:
    num_parameters: q.
    log_constant: ln K, see `discretization_change`.
    resolution: epsilon > 0.

  Returns:
    float. (In print the logarithm is called the covering number.)

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", before eq. (102).
  """
  check_count('num_parameters', num_parameters)
  size = math.log(2 * num_parameters) + number('log_constant', log_constant)
  step = math.log(positive('resolution', resolution))
  return num_parameters * (size - step)


def dudley_integral(
  upper: float, *, num_parameters: int, log_constant: float
) -> float:
  """Integral over (0, D) of sqrt(q ln(2 q K / epsilon)).

  sqrt(q) (D sqrt(l) + (a sqrt(pi) / 2) erfc(sqrt(l))), a = 2 q K, l = ln(a/D).

  Args:
    upper: D in (0, 2 q K].
    num_parameters: q.
    log_constant: ln K.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (102).
  """
  check_count('num_parameters', num_parameters)
  log_a = math.log(2 * num_parameters) + number('log_constant', log_constant)
  upper = number('upper', upper, 0, exp(log_a), open_low=True)
  root = math.sqrt(log_a - math.log(upper))
  # a = D e^(root^2), and erfc underflows where e^(root^2) overflows.
  tail = math.sqrt(math.pi) / 2 * _scaled_erfc(root)
  return math.sqrt(num_parameters) * upper * (root + tail)


def _scaled_erfc(x: float) -> float:
  """exp(x^2) erfc(x), by its continued fraction for large x."""
  if x < 5:
    return math.exp(x**2) * math.erfc(x)
  fraction = x
  for k in range(60, 0, -1):
    fraction = x + k / 2 / fraction
  return 1 / (math.sqrt(math.pi) * fraction)


def _tail_constant(alpha: float) -> float:
  return math.sin(math.pi * alpha / 2) * math.gamma(alpha) / math.pi
