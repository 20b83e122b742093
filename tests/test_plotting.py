"""Figures hold the rows' numbers, and say so where there are none."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.implicit_compressibility import figures
from htjax import mean_field, plotting

FRACTIONS = [0.0, 0.5, 1.0]
BINS = [0.5, 1.0, 2.0, 4.0, 8.0]
MEASURED = (
  *('test_accuracy', 'pruning_ratio', 'test_accuracy_pruned'),
  *('test_accuracy_curve', 'column_norm_counts'),
)


def make_row(alpha, seed=0, sigma=0.5, status='converged', **more):
  row = {
    'dataset': 'ecg5000',
    'kind': None if alpha is None else 'type1',
    'alpha': alpha,
    'sigma': 0.0 if alpha is None else sigma,
    'width': 100,
    'seed': seed,
    'status': status,
    'diverged': status == 'diverged',
    'test_accuracy': 0.9,
    'pruning_ratio': 0.11 if alpha is None else 0.5 + 0.1 * seed,
    'test_accuracy_pruned': 0.85 - 0.01 * seed,
    'test_accuracy_curve': [0.9, 0.8 - 0.1 * seed, 0.5],
    'column_norm_counts': [30, 60, 10, 0]
    if alpha is None
    else [40, 30, 20, 10],
  }
  if row['diverged']:
    row |= dict.fromkeys(MEASURED)
  return row | more


def table(seeds=3):
  """Four alphas' worth of rows as an experiment leaves them."""
  return [make_row(a, s) for a in (None, 1.75, 1.9) for s in range(seeds)]


FIGURES = {
  'accuracy_against_ratio': lambda rows: plotting.accuracy_against_ratio(
    rows, FRACTIONS
  ),
  'ratio_against_alpha': figures.ratio_against_alpha,
  'column_norms': lambda rows: plotting.column_norms(rows, BINS),
  'sweep': figures.sweep,
}


def texts(figure):
  figure.draw_without_rendering()
  return [t.get_text() for t in figure.findobj(matplotlib.text.Text)]


def line(ax, label):
  (found,) = (x for x in ax.get_lines() if x.get_label() == label)
  return np.asarray(found.get_xydata())


def fits_inside(figure, legend):
  """Whether a legend is on the canvas and covers no data."""
  figure.draw_without_rendering()
  box = legend.get_window_extent()
  whole = figure.bbox
  inside = whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0
  return inside and not any(ax.bbox.overlaps(box) for ax in figure.axes)


def test_accuracy_curves_are_means_in_a_band_of_all_networks():
  rows = table()
  rows[0]['test_accuracy'] = 0.45
  figure = plotting.accuracy_against_ratio(rows, FRACTIONS)
  absolute, relative = figure.axes
  assert len(absolute.get_lines()) == len(relative.get_lines()) == 3
  np.testing.assert_allclose(
    line(absolute, 'α = 1.75'), [[0, 90], [50, 70], [100, 50]]
  )
  # Relative to each network's own accuracy, then the mean: not its reverse.
  at_half = np.mean([0.8 / 0.45, 0.7 / 0.9, 0.6 / 0.9])
  np.testing.assert_allclose(line(relative, 'no noise')[1], [50, at_half])
  band = absolute.collections[0].get_paths()[0].vertices
  middle = band[band[:, 0] == 50, 1]
  np.testing.assert_allclose([middle.min(), middle.max()], [60, 80])


def test_accuracy_of_a_network_that_was_never_right():
  rows = [make_row(None), make_row(1.8, test_accuracy=0.0)]
  figure = plotting.accuracy_against_ratio(rows, FRACTIONS)
  assert np.all(np.isnan(line(figure.axes[1], 'α = 1.8')[:, 1]))
  assert np.all(np.isfinite(line(figure.axes[1], 'no noise')))


def test_ratio_shows_every_network_and_its_quartiles():
  figure = figures.ratio_against_alpha(table(5))
  (ax,) = figure.axes
  points = [x for x in ax.get_lines() if x.get_label() == 'a trained network']
  assert len(points) == 3
  for i, (artist, ratios) in enumerate(
    zip(points, [[50, 60, 70, 80, 90]] * 2 + [[11] * 5], strict=True)
  ):
    x, y = artist.get_xydata().T
    np.testing.assert_allclose(y, ratios)
    assert len(set(x)) == 5
    assert np.all(abs(x - i) < 0.5)
  bar = next(c for c in ax.containers if 'median' in c.get_label())
  (ends,) = bar.lines[2][0].get_segments()
  np.testing.assert_allclose(bar.lines[0].get_xydata()[:, 1], [70])
  np.testing.assert_allclose(ends[:, 1], [60, 80])
  labels = [t.get_text() for t in ax.get_xticklabels()]
  assert labels == ['1.75\nσ = 0.5', '1.9\nσ = 0.5', 'no noise']


def test_ratio_has_published_mark_and_closed_form_beside_it():
  law = [0.2, 0.3, 0.4, 0.5, 0.6]
  printed = {
    'published_pruning_ratio': 0.4,
    'published_pruning_ratio_sd': 0.2,
  }
  rows = [
    make_row(1.75, s, law_pruning_ratios=law, **printed) for s in range(3)
  ]
  figure = figures.ratio_against_alpha([*rows, make_row(None)])
  (ax,) = figure.axes
  bars = {c.get_label(): c for c in ax.containers}
  mark = bars['published mean, sd']
  np.testing.assert_allclose(mark.lines[0].get_xydata()[:, 1], [40])
  np.testing.assert_allclose(mark.lines[2][0].get_segments()[0][:, 1], [20, 60])
  closed = bars['closed form (thin: 5 to 95 %)']
  np.testing.assert_allclose(closed.lines[0].get_xydata()[:, 1], [40])
  np.testing.assert_allclose(
    closed.lines[2][0].get_segments()[0][:, 1], [30, 50]
  )
  positions = [
    c.lines[0].get_xdata()[0] for c in (ax.containers[0], closed, mark)
  ]
  assert positions == sorted(positions)
  (legend,) = figure.legends
  assert len(legend.get_texts()) == 4
  assert fits_inside(figure, legend)


def test_ratio_of_a_group_that_diverged_still_shows_what_was_published():
  row = make_row(1.75, status='diverged', published_pruning_ratio=0.4)
  figure = figures.ratio_against_alpha([row, make_row(None)])
  assert 'published mean, sd' in texts(figure)
  assert '1.75\nσ = 0.5\nall diverged' in texts(figure)


def test_norms_are_mean_shares_over_the_bins():
  rows = [
    make_row(1.75, 0, column_norm_counts=[40, 30, 20, 10]),
    make_row(1.75, 1, column_norm_counts=[0, 10, 0, 0]),
    make_row(None),
  ]
  (ax,) = plotting.column_norms(rows, BINS).axes
  steps = {p.get_label(): p.get_data() for p in ax.patches}
  np.testing.assert_allclose(steps['α = 1.75'].edges, BINS)
  np.testing.assert_allclose(steps['α = 1.75'].values, [0.2, 0.65, 0.1, 0.05])
  np.testing.assert_allclose(steps['no noise'].values, [0.3, 0.6, 0.1, 0])
  assert (ax.get_xscale(), ax.get_yscale()) == ('log', 'log')
  assert ax.get_xlim()[1] > 8
  assert 0 < ax.get_ylim()[0] < 0.05


def test_norms_leave_out_empty_bins_at_the_ends():
  rows = [make_row(None, column_norm_counts=[0, 5, 0, 0])]
  (ax,) = plotting.column_norms(rows, BINS).axes
  assert 0.5 < ax.get_xlim()[0] < 1
  assert 2 < ax.get_xlim()[1] < 4


def test_norms_outside_the_bins_are_said_to_be():
  figure = plotting.column_norms(
    [make_row(None, column_norm_counts=[0, 0, 0, 0])], BINS
  )
  assert 'no column lies within the bins' in texts(figure)


def sweep_rows():
  """Alpha 1.75 converges to sigma 2, then runs out of steps, then diverges."""
  outcomes = {
    0.5: ('converged', 'converged'),
    1.0: ('converged', 'out of steps'),
    2.0: ('converged', 'converged'),
    4.0: ('converged', 'diverged'),
    8.0: ('diverged', 'diverged'),
  }
  noisy = [
    make_row(1.75, seed, sigma, status)
    for sigma, statuses in outcomes.items()
    for seed, status in enumerate(statuses)
  ]
  return [make_row(None), make_row(None, 1), *noisy]


def scatters(ax, size):
  """Face colours and positions of the marks of one size, in drawing order."""
  return [
    (c.get_facecolor(), c.get_offsets()[0])
    for c in ax.collections
    if c.get_sizes()[0] == size
  ]


def test_sweep_marks_what_became_of_each_setting():
  trade, scale = figures.sweep(sweep_rows()).axes
  marks = scatters(scale, 45)
  np.testing.assert_allclose([x for _, (x, _) in marks], [0.5, 1, 2, 4, 8])
  np.testing.assert_allclose([y for _, (_, y) in marks], [55, 55, 55, 50, -10])
  white, colour = (1, 1, 1, 1), marks[0][0][0]
  np.testing.assert_allclose(marks[1][0][0], white)
  np.testing.assert_allclose(marks[2][0][0], colour)
  assert not np.allclose(colour, white)
  crosses = [c.get_paths()[0] for c in scale.collections if c.get_sizes() == 45]
  assert len(crosses[3].vertices) == len(crosses[4].vertices) == 4
  assert len(crosses[0].vertices) > 4
  assert 'all\ndiverged' in [t.get_text() for t in scale.get_yticklabels()]
  # Nothing is known of sigma 8 in the left panel; one reference, one ring.
  assert len(trade.collections) == 4 + 1 + 1


def test_sweep_rings_the_largest_sigma_at_which_all_converged():
  _, scale = figures.sweep(sweep_rows()).axes
  ((face, position),) = scatters(scale, 175)
  np.testing.assert_allclose(position, [2, 55])
  assert len(face) == 0 or face[0][3] == 0
  vertical = [x for x in scale.get_lines() if x.get_linestyle() == ':']
  np.testing.assert_allclose(vertical[0].get_xdata(), [2, 2])
  assert len(vertical) == 1


def test_sweep_grows_points_and_draws_the_reference():
  trade, scale = figures.sweep(sweep_rows()).axes
  filled = [c.get_sizes()[0] for c in trade.collections[:4]]
  assert filled == sorted(filled)
  assert filled[0] < filled[-1]
  dashed = [
    x.get_ydata()[0]
    for ax in (trade, scale)
    for x in ax.get_lines()
    if x.get_linestyle() == '--'
  ]
  np.testing.assert_allclose(dashed, [84.5, 11])


def test_sweep_legend_lies_beside_the_panels():
  figure = figures.sweep(sweep_rows())
  (legend,) = figure.legends
  assert fits_inside(figure, legend)
  assert [t.get_text() for t in legend.get_texts()] == [
    'α = 1.75',
    'no noise',
    'all seeds converged',
    'some ran out of steps',
    'some diverged',
    'largest σ, all converged',
  ]


@pytest.mark.parametrize('name', FIGURES)
@pytest.mark.parametrize(
  'rows',
  [
    table(1),
    [make_row(None)],
    [make_row(1.75)],
    [make_row(1.75), make_row(1.75, 1, status='diverged')],
    [make_row(a / 100) for a in range(120, 200, 10)],
    [{k: v for k, v in make_row(1.8).items() if k not in ('width', 'kind')}],
  ],
  ids=['one seed', 'clean', 'noisy', 'part', 'many alphas', 'own rows'],
)
def test_every_figure_of_unusual_rows(name, rows):
  figure = FIGURES[name](rows)
  figure.draw_without_rendering()
  assert any(ax.has_data() for ax in figure.axes)
  for ax in figure.axes:
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@pytest.mark.parametrize('name', FIGURES)
@pytest.mark.parametrize(
  ('rows', 'reason'),
  [
    ([], 'no networks yet'),
    ([make_row(1.8, s, status='diverged') for s in (0, 1)], 'all 2 networks'),
  ],
  ids=['empty', 'diverged'],
)
def test_every_figure_says_why_it_is_empty(name, rows, reason):
  figure = FIGURES[name](rows)
  assert not figure.axes
  assert any(reason in text for text in texts(figure))


def test_titles_name_what_all_rows_share():
  assert 'ecg5000, Type I noise, width 100' in texts(
    figures.ratio_against_alpha(table())
  )
  mixed = [make_row(None, width=50), make_row(1.8, kind='type3')]
  assert 'ecg5000, Type III noise' in texts(figures.ratio_against_alpha(mixed))


def test_diverged_networks_are_counted_in_the_labels():
  rows = [make_row(1.75), make_row(1.75, 1, status='diverged')]
  assert 'α = 1.75 (1 of 2 runs)' in texts(plotting.column_norms(rows, BINS))
  shown = texts(figures.ratio_against_alpha(rows))
  assert '1.75\nσ = 0.5\n1 of 2 runs' in shown


@pytest.mark.parametrize(
  ('draw', 'message'),
  [
    (
      lambda: plotting.accuracy_against_ratio(table(), [0.0, 1.0]),
      'fractions must fit test_accuracy_curve',
    ),
    (
      lambda: plotting.accuracy_against_ratio(table(), [0.0, 50.0, 100.0]),
      'fractions must lie in',
    ),
    (lambda: plotting.column_norms(table()), 'bins must fit'),
    (
      lambda: plotting.column_norms(table(), BINS[::-1]),
      'bins must be positive',
    ),
    (
      lambda: plotting.column_norms(table(), [0, 1, 2, 3, 4]),
      'bins must be pos',
    ),
    (lambda: figures.sweep([make_row(1.8, sigma=0.0)]), 'sigma must lie in'),
    (lambda: figures.sweep([{'alpha': None}]), "rows must have 'diverged'"),
  ],
)
def test_wrong_arguments_are_named(draw, message):
  with pytest.raises(ValueError, match=message):
    draw()


def test_default_bins_are_a_geometric_sequence():
  assert plotting.NORM_BINS.shape == (81,)
  np.testing.assert_allclose(plotting.NORM_BINS[[0, 20, 80]], [0.1, 1, 1000])


def test_save_writes_png_and_nothing_else(tmp_path):
  path = tmp_path / 'a.png'
  path.write_text('old')
  plotting.save(plotting.column_norms(table(), BINS), path)
  image = path.read_bytes()
  assert image.startswith(b'\x89PNG')
  width, height = (int.from_bytes(image[i : i + 4]) for i in (16, 20))
  assert min(width, height) > 600
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']


def test_save_draws_what_savefig_does(tmp_path):
  figure = plotting.column_norms(table(), BINS)
  dpi = figure.dpi
  plotting.save(figure, tmp_path / 'a.png')
  assert figure.dpi == dpi
  figure = plotting.column_norms(table(), BINS)
  figure.savefig(tmp_path / 'b.png', dpi=150)
  ours, theirs = (image.imread(tmp_path / name) for name in ('a.png', 'b.png'))
  np.testing.assert_array_equal(ours, theirs)


def test_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
  def unfinished(canvas, path):
    path.write_bytes(b'\x89PNG, but')
    raise RuntimeError('disk full')

  monkeypatch.setattr(FigureCanvasAgg, 'print_png', unfinished)
  path = tmp_path / 'a.png'
  path.write_text('old')
  with pytest.raises(RuntimeError, match='disk full'):
    plotting.save(Figure(), path)
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']


def test_save_refuses_other_endings(tmp_path):
  with pytest.raises(ValueError, match=r'path must end in \.png'):
    plotting.save(Figure(), tmp_path / 'a.pdf')


def test_save_closes_a_pyplot_figure(tmp_path):
  with matplotlib.rc_context({'backend': 'agg'}):
    from matplotlib import pyplot

    kept, figure = pyplot.figure(), pyplot.figure()
    plotting.save(figure, tmp_path / 'a.png')
    assert pyplot.get_fignums() == [kept.number]
    pyplot.close(kept)


def test_figures_touch_neither_pyplot_nor_global_settings(tmp_path):
  code = f"""
import sys
sys.path.insert(0, 'tests')
from experiments.implicit_compressibility import figures
from htjax import mean_field, plotting
assert 'matplotlib' not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()
import test_plotting
for draw in test_plotting.FIGURES.values():
  plotting.save(draw(test_plotting.table()), {str(tmp_path / 'a.png')!r})
assert matplotlib.rcParams.copy() == before
assert 'matplotlib.pyplot' not in sys.modules
"""
  subprocess.run([sys.executable, '-c', code], check=True)


def test_rates_draw_points_intervals_and_both_powers():
  x = np.array([16.0, 64.0, 256.0])
  errors = 3 * x[:, None] ** -0.5 * np.array([0.9, 1.0, 1.0, 1.1])
  rate = mean_field.fit_rate(x, errors)
  figure = plotting.rates(x, {'a': rate, 'b': rate}, predicted={'a': -1.0})
  (ax,) = figure.axes
  assert (ax.get_xscale(), ax.get_yscale()) == ('log', 'log')
  labels = [text.get_text() for text in ax.get_legend().get_texts()]
  assert labels == ['a: -0.50 (theorem -1.00)', 'b: -0.50']
  points, fit, theorem = ax.get_lines()[:3]
  np.testing.assert_allclose(points.get_ydata(), 3 * x**-0.5)
  np.testing.assert_allclose(fit.get_ydata(), 3 * x**-0.5)
  np.testing.assert_allclose(theorem.get_ydata(), 48 / x)
  assert len(ax.get_lines()) == 5
  segments = ax.collections[0].get_segments()
  deviation = np.array([0.9, 1.0, 1.0, 1.1]).std(ddof=1) / 2
  reach = 1.96 * deviation * 3 * x**-0.5
  np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in segments], 2 * reach)


@pytest.mark.parametrize(
  ('x', 'predicted', 'message'),
  [
    ([0.0, 1.0, 2.0], {}, 'x must be .* positive'),
    ([1.0, 2.0], {}, "must have 2 levels a rate, as x has, got 3 for 'a'"),
    ([1.0, 2.0, 4.0], {'c': 1.0}, r"predicted .*\['a'\], got \['c'\]"),
  ],
)
def test_rates_that_do_not_fit(x, predicted, message):
  rate = mean_field.fit_rate([1.0, 2.0, 4.0], np.ones((3, 4)) + np.eye(3, 4))
  with pytest.raises(ValueError, match=message):
    plotting.rates(x, {'a': rate}, predicted=predicted)


def test_a_rate_is_drawn_with_its_slope_and_what_is_predicted():
  _figure, (ax,) = plotting.panels(1)
  row = {
    'x': [1.0, 10.0, 100.0],
    'levels': [2.0, 0.2, 0.02],
    'errors': [0.1, 0.01, 0.001],
    'slope': -1.0,
    'local_slopes': [-1.0, -1.0],
    'predicted': -0.5,
    'sharp_bound': [1e6, 1e6, 1e6],
    'bound': [3.0, 0.3, 0.03],
  }
  plotting.draw_rate(ax, row, 'black', 'ours')
  points, fitted, predicted, bound = ax.get_lines()
  assert ax.containers[0].get_label() == 'ours: -1.00 (theorem -0.50)'
  np.testing.assert_allclose(fitted.get_ydata(), row['levels'])
  np.testing.assert_allclose(
    predicted.get_ydata(), 0.02 * np.sqrt([100.0, 10.0, 1.0])
  )
  np.testing.assert_allclose(bound.get_ydata(), row['bound'])
  np.testing.assert_allclose(points.get_ydata(), row['levels'])
  # Numbers that no power of x was fitted to have points alone.
  _, (alone,) = plotting.panels(1)
  plotting.draw_rate(
    alone, {k: row[k] for k in ('x', 'levels', 'errors')} | {'predicted': 0.0}
  )
  assert len(alone.get_lines()) == 1
