"""Statements that no public function computes: where they are, or why not."""

from typing import NamedTuple


class Elsewhere(NamedTuple):
  """A place in a paper, and what stands for it in the project."""

  key: str
  place: str
  text: str


_NO_VALUE = 'an existence statement that gives no value'

ELSEWHERE = tuple(
  Elsewhere(*entry)
  for entry in (
    (
      'HT',
      'Condition 1',
      'a limit in law of growing networks, which no network can show; '
      '`tail_index.halves` and `tail_index.magnitude_dependence` can refute it',
    ),
    (
      'HT',
      'd_0, d_(l,0) and h_(l-1,0) of Theorems 1 to 4',
      f'{_NO_VALUE}; the rates are `compressibility.error_rate`, measured in '
      '`experiments/heavy_tails_sgd` (`limits`)',
    ),
    (
      'HT',
      'section 3.3',
      'entries, columns or singular values that are ergodic: draws by '
      '`stable.autoregression`, measured in `experiments/heavy_tails_sgd` '
      '(`limits`)',
    ),
    (
      'HT',
      'sections S1.3 and S1.6, Tables and Figures',
      '`experiments/heavy_tails_sgd`; the curves of the figures are not '
      'printed as numbers, nor are the epsilons of Figure S4',
    ),
    (
      'IC',
      'N of Theorem 3.1',
      f'{_NO_VALUE}; errors against the width, at the step of the theorem, '
      'are in `experiments/mean_field` (`compressibility`, `step_condition`)',
    ),
    (
      'IC',
      'Theorem 4.3',
      'that a second moment is infinite: `second_moment` and `tail` of '
      '`experiments/mean_field`',
    ),
    (
      'IC',
      'Lemma C.3',
      'a limit, with no rate: `infinite_mean` of `experiments/mean_field`',
    ),
    (
      'IC',
      'eq. (6)',
      '`mean_field.simulate` at alpha 2, where the noise is Gaussian of '
      'variance 2 a unit of time',
    ),
    (
      'IC',
      'choice of sigma (appendix E)',
      'the largest with which training converges, by hand; the printed ones '
      'are the presets of `experiments/implicit_compressibility`',
    ),
    (
      'IC',
      'appendix F',
      'federated learning, in words: nothing to compute',
    ),
    (
      'IC',
      'Tables, Figures 1 and 2',
      '`experiments/implicit_compressibility`; Figure 1 is a drawing',
    ),
    (
      'SH',
      'Remarks 1 to 3, section 5.2',
      'discussion; that at a fixed threshold fewer weights are kept for a '
      'larger alpha, and at a fixed error more, is `heavy_fraction` beside '
      '`compressibility.smallest_kappa`',
    ),
    (
      'SH',
      'Tables and Figures',
      '`experiments/gaussian_compression`; the weights of the forty networks '
      'of Figure 3 are not at hand, nor are its numbers printed',
    ),
    (
      'SK',
      'Remarks 4.1 and 5.1',
      'the diagonal is kept by `pruning.randomized_magnitude`; c = 2 is '
      '`recovery_exponent` of `sketched_risk`',
    ),
    (
      'SK',
      'constants of every O, C of Lemma C.3',
      'not printed: arguments, and a premise `constant` that is taken on trust',
    ),
    (
      'SK',
      'D_G of Theorem F.1',
      'a polynomial that is not given: the premise `wide network` is taken on '
      'trust; the construction is `lottery_subnetwork`',
    ),
    (
      'SK',
      'Tables and Figures',
      '`experiments/sketching_bounds`; margin, steps of the grid and lambda of '
      'Table 1 are not printed, and no choice of them gives its values',
    ),
  )
)
