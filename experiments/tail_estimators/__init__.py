"""Which tail-index estimator to believe: bias on each other's models, coverage.

Every estimator of `htjax.tail_index` is given samples of laws whose tail index
is known, most of which are not its own model. Then the 95 % intervals are
counted that hold the truth where each estimator is at home.

  python -m experiments.tail_estimators \
    --config=experiments/tail_estimators/config.py:cpu --workdir=runs/tails
"""
