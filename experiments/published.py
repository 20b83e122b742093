"""Numbers printed in the papers, so that ours can stand beside them.

Accuracies and pruning ratios are fractions, (mean, standard deviation) over
five runs, as in Tables 1-6 of "Implicit Compressibility of Overparametrized
Neural Networks Trained with Heavy-Tailed SGD". Alpha None is the network
trained without noise.
"""

COLUMNS = (
  'train_accuracy',
  'test_accuracy',
  'pruning_ratio',
  'train_accuracy_pruned',
  'test_accuracy_pruned',
)

_PERCENT: dict[str, dict[float | None, str]] = {
  'IC-TB1': {
    None: '95.10 0.14 94.32 0.27 11.43 0.04 94.20 1.13 93.31 0.28',
    1.75: '95.04 0.09 94.19 0.25 50.35 20.63 90.20 7.63 90.32 6.53',
    1.8: '95.04 0.09 94.19 0.25 37.22 20.51 95.16 0.89 93.92 0.54',
    1.9: '95.04 0.09 94.19 0.25 24.89 9.89 94.84 0.57 94.32 0.46',
  },
  'IC-TB2': {
    None: '95.36 0.33 94.30 0.29 11.44 0.02 94.12 3.09 93.53 2.18',
    1.75: '95.36 0.33 94.30 0.29 60.23 17.85 91.16 6.84 90.75 6.72',
    1.8: '95.36 0.33 94.30 0.29 49.63 6.17 94.12 1.43 93.17 1.46',
    1.9: '95.36 0.33 94.30 0.29 30.05 8.12 94.44 1.06 93.86 1.00',
  },
  'IC-TB3': {
    1.75: '95.84 0.55 94.59 0.41 60.19 35.37 92.00 2.92 91.39 2.57',
    1.8: '95.88 0.72 94.61 0.51 39.98 18.52 93.72 2.91 92.97 2.39',
    1.9: '95.60 0.49 94.67 0.62 31.34 21.05 93.80 2.13 93.00 2.03',
  },
  'IC-TB4': {
    1.75: '95.92 1.01 94.84 0.81 57.34 15.70 92.52 4.57 92.19 4.21',
    1.8: '96.04 0.80 94.77 1.33 45.24 24.32 93.56 3.77 92.72 3.08',
    1.9: '95.88 0.33 94.71 0.47 26.35 18.36 94.44 1.73 94.06 1.17',
  },
  'IC-TB5': {
    None: '96.32 0.68 96.00 0.48 10.58 0.01 96.30 0.67 95.95 0.47',
    1.75: '95.48 0.20 95.01 0.15 40.63 8.55 93.14 1.54 92.89 1.70',
    1.8: '95.42 0.25 94.95 0.16 36.05 6.53 93.62 1.32 93.27 1.33',
    1.9: '95.88 0.36 95.44 0.24 23.82 5.89 95.30 0.89 94.94 0.81',
  },
  'IC-TB6': {
    None: '96.52 0.85 56.71 0.38 11.60 0.09 96.13 0.91 56.31 0.50',
    1.75: '95.56 0.24 51.60 0.22 49.67 2.30 95.28 0.23 51.48 0.27',
    1.8: '95.86 0.36 52.36 0.31 41.01 1.36 95.61 0.51 52.03 0.27',
    1.9: '96.08 0.21 52.60 0.41 30.25 1.95 96.17 0.21 52.65 0.36',
  },
}


def row(
  table: str, alpha: float | None
) -> dict[str, tuple[float, float]] | None:
  """The published row, {column: (mean, sd)}, or None where none is printed."""
  text = _PERCENT.get(table, {}).get(alpha)
  if text is None:
    return None
  numbers = [float(word) / 100 for word in text.split()]
  return {
    column: (numbers[2 * i], numbers[2 * i + 1])
    for i, column in enumerate(COLUMNS)
  }
