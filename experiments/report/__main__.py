"""Collect all results at hand in pages, one for each paper and a summary."""

import argparse
import sys
from pathlib import Path

from experiments.report import pages

if __name__ == '__main__':
  parser = argparse.ArgumentParser('experiments.report', description=__doc__)
  parser.add_argument(
    '--runs', nargs='*', default=[], help='folders that hold STUDY-PRESET/..'
  )
  parser.add_argument('--out', default=str(pages.FOLDER), help='of the pages')
  given = parser.parse_args()
  summary = pages.write(pages.collect(given.runs), Path(given.out))
  sys.stdout.write(f'{summary}\nwritten to {given.out}\n')
