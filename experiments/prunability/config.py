"""Presets: a data set, a network, and the methods that are compared on it.

`tune_PRESET` scans the settings of contribution noise and of the group lasso,
on other seeds than those that PRESET reports.
"""

from collections.abc import Iterable
from typing import Any

from experiments.common.presets import getter
from htjax import models

Method = dict[str, Any]

BASE: dict[str, Any] = {
  'dataset': '',
  'dataset_options': {},
  'num_train': 0,  # the first examples of each split; 0 is all
  'num_test': 0,
  'pool': 1,  # pictures are averaged over squares of so many pixels
  'network': 'fcn',  # 'fcn' or 'cnn'
  'width': 0,
  'hidden_layers': 1,
  'channels': (),
  'batch_size': 100,
  'eval_batch': 2000,
  'num_steps': 0,  # of every method
  'methods': (),  # see `method`
  'baseline': 'clean',  # what the others are paired with, seed by seed
  'shares': (0.5, 0.25, 0.1, 0.05, 0.02),  # of the units of a layer, kept
  'criteria': ('norm', 'centred', 'in_out', 'activation'),
  'activation_examples': 256,
  'tuned_shares': (0.1, 0.05, 0.02),  # fine-tuned after pruning
  'tuned_epochs': 0,
  'tuned_learning_rate': 0.1,
  'small': True,  # networks of these shares of the units from the start
  'small_learning_rate': 0.3,
  'tuning': False,
  'drawn': (),  # methods in figures; () is all
  'first_seed': 1,
  'num_seeds': 8,
  'at_once': 0,  # lanes in a batch; 0 is 1 on a CPU and all elsewhere
}


def method(name: str, kind: str, learning_rate: float, **more: Any) -> Method:
  """A method: what is trained by it, and its numbers.

  Args:
    name: in tables and figures.
    kind: see `methods.optimizer`.
    learning_rate: constant.
    **more: strength (a penalty, r, or s), alpha, on (share of the steps that
      have contribution noise), batch_size (0 is the preset's).
  """
  defaults = {'strength': 0.0, 'alpha': 2.0, 'on': 1.0, 'batch_size': 0}
  return {
    'name': name,
    'kind': kind,
    'learning_rate': learning_rate,
    **(defaults | more),
  }


def _contribution(
  rate: float,
  strength: float,
  alpha: float,
  on: float,
  kind: str = 'contribution',
) -> Method:
  name = f'{kind} a{alpha:g} s{strength:g} on {on:g} lr {rate:g}'
  return method(name, kind, rate, strength=strength, alpha=alpha, on=on)


def _compared(
  rate: float, best: Iterable[Method], lasso: tuple[Method, ...]
) -> tuple[Method, ...]:
  """Every method of the study, around one step size."""
  large = 3 * rate
  return (
    method('clean', 'sgd', rate),
    method('larger step', 'sgd', large),
    method('large step / batch', 'sgd', rate, batch_size=10),
    method('weight decay', 'weight_decay', rate, strength=1e-3),
    method('L1', 'l1', rate, strength=1e-3),
    *lasso,
    method('Type I r .1', 'type1', rate, strength=0.1, alpha=1.75),
    method('Type I r .3', 'type1', rate, strength=0.3, alpha=1.75),
    method('Type I r 1', 'type1', rate, strength=1.0, alpha=1.75),
    method('Type I Gaussian r .3', 'type1', rate, strength=0.3),
    method('Type II r .3', 'type2', rate, strength=0.3, alpha=1.75),
    method('Type III r .3', 'type3', rate, strength=0.3, alpha=1.75),
    method('Type I annealed r .3', 'annealed', rate, strength=0.3, alpha=1.75),
    method(
      'incoming weights times noise', 'incoming', rate, strength=2.0, on=0.7
    ),
    method('initial spread', 'spread', rate),
    *best,
  )


def _few(
  rate: float, best: Iterable[Method], lasso: tuple[Method, ...]
) -> tuple[Method, ...]:
  """The methods that matter, where training takes long."""
  return (
    method('clean', 'sgd', rate),
    *best,
    *lasso,
    method('larger step', 'sgd', 3 * rate),
    method('Type I r .1', 'type1', rate, strength=0.1, alpha=1.75),
    method('Type I r .3', 'type1', rate, strength=0.3, alpha=1.75),
  )


def _lasso(rate: float, strength: float) -> Method:
  return method(
    f'group lasso {strength:g} lr {rate:g}',
    'group_lasso',
    rate,
    strength=strength,
  )


def _grid(rates, strengths, alphas, shares) -> tuple[Method, ...]:
  return tuple(
    _contribution(rate, s, alpha, on)
    for rate in rates
    for alpha in alphas
    for s in strengths
    for on in shares
  )


_DIGITS = {
  'dataset': 'digits',
  'width': 1000,
  'num_steps': 600,
  'tuned_epochs': 8,
}
_MNIST = {
  'dataset': 'mnist',
  'num_train': 10_000,
  'width': 1000,
  'num_steps': 1000,
  'tuned_epochs': 2,
}
_DEEP = {
  'dataset': 'digits',
  'width': 256,
  'hidden_layers': 3,
  'num_steps': 1000,
  'small_learning_rate': 0.2,
  'shares': (0.5, 0.3, 0.2, 0.1),
  'tuned_shares': (0.2, 0.1),
  'tuned_epochs': 8,
}
_CNN = {
  'dataset': 'mnist',
  'num_train': 5000,
  'num_test': 5000,
  'pool': 2,
  'network': 'cnn',
  'channels': (32, 'M', 64, 'M', 64),
  'num_steps': 500,
  'small_learning_rate': 0.1,
  'shares': (0.5, 0.3, 0.2),
  'criteria': ('norm', 'in_out'),
  'tuned_shares': (0.3, 0.2),
  'tuned_epochs': 2,
}

_CIFAR10 = {
  'dataset': 'cifar10',
  'num_train': 10_000,
  'num_test': 5000,
  'pool': 2,
  'criteria': ('norm', 'in_out'),
  'tuned_epochs': 1,
  'num_seeds': 5,
}
_CNN_LASSO = (_lasso(0.1, 0.003), _lasso(0.1, 0.01))
_LASSO = (_lasso(0.3, 0.003), _lasso(0.3, 0.004), _lasso(0.3, 0.01))
_GAUSSIAN = _contribution(0.3, 4.0, 2.0, 0.4)

_DRAWN = (
  *('clean', 'larger step', 'Type I r .3', 'Type I Gaussian r .3'),
  *('Type II r .3', 'initial spread'),
  *('group lasso 0.003 lr 0.3', 'group lasso 0.01 lr 0.3'),
  _GAUSSIAN['name'],
)

# Over each preset its command, beside
# `python -m experiments.prunability --workdir=runs/NAME --config=`
# `experiments/prunability/config.py:NAME`, its time on 2 cores, and test
# accuracy in %, dense and with a share of the units.
PRESETS: dict[str, dict[str, Any]] = {
  # Does it run? 10 s: clean 89.9, at 20 % 60.7.
  'smoke': {
    **_DIGITS,
    'width': 64,
    'num_steps': 100,
    'num_seeds': 2,
    'shares': (0.5, 0.2),
    'tuned_shares': (0.2,),
    'tuned_epochs': 1,
    'methods': (
      method('clean', 'sgd', 0.1),
      method('group lasso', 'group_lasso', 0.1, strength=0.01),
      _contribution(0.1, 2.0, 1.5, 0.7),
    ),
  },
  # `make demo`: five methods, three seeds. 30 s: at 10 % clean 84.9, stable
  # noise 73.1, group lasso 92.5, contribution noise 95.9.
  'demo': {
    **_DIGITS,
    'num_seeds': 3,
    'criteria': ('norm', 'in_out'),
    'methods': (
      method('clean', 'sgd', 0.1),
      method('three times the step', 'sgd', 0.3),
      method('stable noise, Type I', 'type1', 0.1, strength=1.0, alpha=1.75),
      method('group lasso', 'group_lasso', 0.3, strength=0.003),
      _GAUSSIAN | {'name': 'contribution noise'},
    ),
  },
  # One hidden layer. 3 min: clean 96.5, at 10 % 86.4; contribution noise 96.2
  # and 96.1.
  'digits': {
    **_DIGITS,
    'drawn': _DRAWN,
    'methods': _compared(
      0.1,
      (
        _GAUSSIAN,
        _contribution(0.3, 4.0, 1.5, 0.7),
        _contribution(0.1, 4.0, 2.0, 0.4),
        _contribution(0.3, 4.0, 2.0, 0.4, 'unconserved'),
      ),
      (_lasso(0.1, 0.01), *_LASSO),
    ),
  },
  # 20 min: clean 95.5, at 10 % 82.5; contribution noise 95.5 and 95.2.
  'mnist': {
    **_MNIST,
    'drawn': _DRAWN,
    'methods': _compared(
      0.1, (_GAUSSIAN, _contribution(0.3, 8.0, 1.5, 0.4)), _LASSO
    ),
  },
  # All training images, three epochs, 7 of the 19 methods, 5 seeds. Half an
  # hour: clean 97.5, at 10 % 82.3; contribution noise 97.4 and 96.7.
  'mnist_60000': {
    **_MNIST,
    'num_train': 0,
    'num_steps': 1800,
    'num_seeds': 5,
    'tuned_shares': (0.1, 0.02),
    'tuned_epochs': 1,
    'criteria': ('norm', 'in_out'),
    'methods': _few(
      0.1, (_GAUSSIAN, _contribution(0.3, 8.0, 1.5, 0.4)), _LASSO[1:2]
    ),
  },
  # Three hidden layers. 8 min: clean 96.5, at 20 % 66.9; contribution noise
  # 95.8 and 95.5; the strongest group lasso 95.0 and 95.0.
  'deep': {
    **_DEEP,
    'methods': _compared(
      0.1,
      (
        _contribution(0.2, 3.0, 2.0, 0.7),
        _contribution(0.2, 4.0, 2.0, 0.4),
        _contribution(0.2, 3.0, 1.5, 0.7),
      ),
      tuple(_lasso(0.2, p) for p in (0.003, 0.005, 0.01)),
    ),
  },
  # Convolutions. About 20 min: clean 93.0, at 30 % 47.3; contribution noise of
  # s = 2 90.6 and 75.3.
  'mnist_cnn': {
    **_CNN,
    'methods': _few(
      0.1,
      tuple(_contribution(0.1, s, 2.0, 0.4) for s in (1.0, 2.0)),
      _CNN_LASSO,
    ),
  },
  # Figure 2 of the IC paper, reduced: pictures of 16 x 16, 10,000 of them, a
  # width of 1,000 in place of 5,000, 1,000 steps, 5 seeds. Settings are those
  # that were chosen on MNIST. 6 CPU min: clean 45.2, at 10 % 30.2;
  # contribution noise 45.6 and 44.2.
  'cifar10_fcn': {
    **_CIFAR10,
    'width': 1000,
    'num_steps': 1000,
    'tuned_shares': (0.1, 0.02),
    'methods': _few(
      0.1,
      (_contribution(0.1, 4.0, 2.0, 0.4), _contribution(0.1, 8.0, 1.5, 0.4)),
      (_lasso(0.1, 0.003),),
    ),
  },
  # And three layers of 32 to 64 filters in place of eight of up to 1,024, 600
  # steps, 5 seeds. About 20 min: clean 38.6, at 30 % 23.5; contribution noise
  # 36.7 and 26.2.
  'cifar10_cnn': {
    **_CIFAR10,
    **{'network': 'cnn', 'channels': (32, 'M', 64, 'M', 64)},
    'num_steps': 600,
    'small_learning_rate': 0.1,
    'shares': (0.5, 0.3, 0.2),
    'tuned_shares': (0.3,),
    'methods': _few(
      0.1,
      (_contribution(0.1, 2.0, 2.0, 0.4), _contribution(0.1, 2.0, 1.5, 0.4)),
      _CNN_LASSO[1:],
    ),
  },
  # At the published sizes: for a GPU, not run.
  'paper': {
    'dataset': 'cifar10',
    'network': 'cnn',
    'channels': models.VGG11_WIDE,
    'eval_batch': 500,
    'num_steps': 20_000,
    'small_learning_rate': 0.01,
    'shares': (0.5, 0.4, 0.3, 0.2, 0.1),
    'criteria': ('norm', 'in_out'),
    'tuned_shares': (0.4, 0.2, 0.1),
    'tuned_epochs': 4,
    'methods': _few(
      0.01,
      (_contribution(0.01, 2.0, 2.0, 0.4), _contribution(0.01, 2.0, 1.5, 0.4)),
      (_lasso(0.01, 0.001), _lasso(0.01, 0.003)),
    ),
  },
}

_TUNED: dict[str, tuple[dict[str, Any], tuple[Method, ...]]] = {
  # 2 min, 3 min, 5 min, 5 min.
  'tune_digits': (
    _DIGITS,
    (
      *(_lasso(0.1, p) for p in (0.003, 0.01)),
      *(_lasso(0.3, p) for p in (0.003, 0.004, 0.005, 0.006, 0.008, 0.01)),
      *_grid((0.3,), (2.0, 3.0, 4.0, 6.0), (1.5, 2.0), (0.4, 0.7)),
    ),
  ),
  'tune_mnist': (
    _MNIST,
    (
      _lasso(0.1, 0.003),
      *(_lasso(0.3, p) for p in (0.003, 0.004, 0.005, 0.006, 0.01)),
      *_grid((0.3,), (3.0, 4.0, 6.0), (1.5,), (0.7,)),
      *_grid((0.3,), (8.0,), (1.5,), (0.4,)),
      *_grid((0.3,), (4.0, 6.0), (2.0,), (0.4,)),
    ),
  ),
  'tune_deep': (
    _DEEP,
    (
      *(_lasso(0.1, p) for p in (0.001, 0.003, 0.01)),
      *(_lasso(0.2, p) for p in (0.003, 0.005, 0.01)),
      *_grid((0.1, 0.2), (1.0, 2.0, 3.0), (1.5, 2.0), (0.4, 0.7)),
      *_grid((0.2,), (4.0, 5.0), (2.0,), (0.4, 0.7)),
      *_grid((0.3,), (3.0, 4.0), (2.0,), (0.7,)),
    ),
  ),
  'tune_mnist_cnn': (
    _CNN,
    (
      *(_lasso(0.1, p) for p in (0.003, 0.01)),
      *_grid((0.1,), (0.5, 1.0, 2.0, 3.0), (2.0,), (0.4,)),
    ),
  ),
}

PRESETS |= {
  name: {
    **task,
    'methods': (method('clean', 'sgd', 0.1), *methods),
    'tuning': True,
    'first_seed': 101,
    'num_seeds': 3,
    'criteria': ('in_out',),
    'small': False,
    'tuned_epochs': 0,
  }
  for name, (task, methods) in _TUNED.items()
}

get_config = getter(BASE, PRESETS, 'digits')
