"""Which networks are trained, and the row of each."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments.certificates import rest
from experiments.certificates.decoder import Images, evaluate, load_images
from experiments.certificates.report import report
from experiments.certificates.training import Lane, make_trainer, relabel
from experiments.common.cells import Row, cell, run_cells
from htjax.bounds import certificates, codes

_PARTS = ('header', 'position', 'value')


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Train, encode, certify and report; returns the rows of results.json."""
  if config.num_first:
    return rest.run(config, workdir)
  images = load_images(config.dataset, config.levels)
  settings = config, make_trainer(config, images[0]), images
  cells = [
    cell({'lane': lane.name}, make_row, *settings, lane)
    for lane in make_lanes(config)
  ]
  return run_cells(config, workdir, cells, report)


def make_lanes(config: ConfigDict) -> list[Lane]:
  """The main network, then the studies."""
  main = Lane('main', None, 0.0, config.kappa, 0, tuple(config.epochs))
  short = main._replace(epochs=tuple(config.study_epochs))
  lanes = [main._replace(seed=seed) for seed in range(config.main_seeds)]
  lanes.append(short._replace(study='random'))
  for seed in range(1, config.num_seeds + 1):
    clean = short._replace(study='alpha', seed=seed)
    noisy = clean._replace(sigma=config.sigma)
    lanes += [clean, *(noisy._replace(alpha=a) for a in config.alphas)]
  lanes += [short._replace(study='size', kappa=k) for k in config.kappas]
  return lanes


def make_row(
  config: ConfigDict,
  train: Callable[[Lane], codes.Code],
  images: tuple[Images, Images],
  lane: Lane,
) -> Row:
  """Errors and bound of a codeword alone."""
  code = train(lane)
  seen, unseen = (relabel(x, lane, i) for i, x in enumerate(images))
  errors, kept = evaluate(code.bits, seen)
  num_train = len(seen.labels)
  # The codeword names all that was chosen within this family of networks; what
  # was settled for all codewords after looking is counted here.
  bound = certificates.certificate(
    errors,
    num_train,
    code.num_bits,
    config.delta,
    log_settings=sum(config.choices.values()) * math.log(2),
  )
  return {
    'lane': lane.name,
    **lane._asdict(),
    'kept': kept,
    'bits': code.num_bits,
    **{f'{s}_bits': getattr(code, f'{s}_bits') for s in _PARTS},
    'train_errors': errors,
    'train_error': errors / num_train,
    'test_error': evaluate(code.bits, unseen)[0] / len(unseen.labels),
    'num_train': num_train,
    'delta': config.delta,
    **{form: bound.details[form] for form in certificates.FORMS},
    'bound': bound.value,
    'code': np.packbits(code.bits).tobytes().hex(),
  }
