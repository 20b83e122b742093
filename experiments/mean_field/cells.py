"""Measurements, cell by cell.

A row of a study of rates holds the points that its figure shows, the fitted
slope with its interval, what the theorem predicts, and whether it holds:

  study, statement, alpha, kind, what      what is measured, in plain words
  x, levels, errors, bound, sharp_bound    lists, one entry per point
  slope, low, high, predicted              the rate
  holds, bound_holds                       booleans, or null without a claim
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell, run_cells
from experiments.mean_field import coupled, extremes, laws, lemmas
from experiments.mean_field.case import Case, make_problem
from experiments.mean_field.report import report
from htjax import mean_field, training

Study = Callable[[Case], Iterator[Row]]


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  return run_cells(config, workdir, cells(config), report)


def cells(config: ConfigDict) -> list[Cell]:
  """Everything that the config asks for, in the order of the table."""
  problem, plans = make_problem(config), _plans(config)
  constants = functools.cache(lambda: mean_field.regularity(problem))

  def rows(title: str, name: str, alpha: float, kind: str) -> Iterator[Row]:
    key = training.named_key(config.seed, title)
    common = {'study': name, 'alpha': alpha, 'kind': kind}
    for row in plans[name][0](
      Case(config, problem, constants, key, alpha, kind)
    ):
      yield common | row

  titles = {
    f'{name} {alpha:g} {kind}': (name, alpha, kind)
    for name in config.studies
    for alpha, kind in plans[name][1]
  }
  return [cell(title, rows, title, *own) for title, own in titles.items()]


def _plans(
  config: ConfigDict,
) -> dict[str, tuple[Study, list[tuple[float, str]]]]:
  """By name, each study and the (alpha, kind) that it is made for."""
  kinds, first, last = config.kinds, config.kinds[:1], config.kinds[-1:]
  alphas, light = config.alphas, config.tail_alphas[-1:]
  plans = {
    'chaos': (coupled.chaos, alphas, kinds),
    'euler': (coupled.euler, alphas, kinds),
    'euler_width': (coupled.euler_width, alphas, last),
    'linear': (laws.linear, alphas, kinds),
    'tail': (laws.tail, config.tail_alphas, first),
    'second_moment': (laws.second_moment, alphas, first),
    'compressibility': (laws.compression, [a for a in alphas if a < 2], first),
    'gaussian_limit': (laws.gaussian_limit, [2.0], ['type2']),
    'step_condition': (laws.step_condition, light, first),
    'gradient': (extremes.gradient, [config.gradient_alpha], first),
    'infinite_mean': (extremes.infinite_mean, config.mean_alphas, ['type1']),
    'largest_norm': (extremes.largest_norm, config.mean_alphas, kinds),
    'drift': (lemmas.drift, light, last),
    'largest_path': (lemmas.largest_path, alphas, last),
    'one_step': (lemmas.one_step, alphas, last),
    'controls': (_controls, light, last),
  }
  return {
    name: (study, list(itertools.product(*settings)))
    for name, (study, *settings) in plans.items()
  }


def _controls(case: Case) -> Iterator[Row]:
  """Settings that must fail the checks, and do."""
  chaos, euler, path, linear = jax.random.split(case.key, 4)
  yield from coupled.chaos_controls(case._replace(key=chaos), path)
  yield from coupled.euler_control(case._replace(key=euler))
  yield from laws.linear_control(case._replace(key=linear))
