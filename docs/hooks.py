"""The pages that are made when the site is built, and their places.

The build calls `on_config` and `on_files`. In the navigation a section that
ends in a slash stands for all made pages under it.
"""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from site_pages import figures, made


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  """Fill in the sections of the navigation that are made."""
  config.nav = [_expanded(entry) for entry in config.nav or ()]
  return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
  """Add the made pages to those that are written."""
  for page, text in made.pages().items():
    if page.startswith('results/'):
      study = pathlib.PurePath(page).stem
      text += figures.section(study)
      for place, png in figures.images(study).items():
        files.append(File.generated(config, place, content=png))
    files.append(File.generated(config, page, content=text))
  return files


def _expanded(entry: dict) -> dict:
  ((title, value),) = entry.items()
  if isinstance(value, list):
    return {title: [_expanded(e) if isinstance(e, dict) else e for e in value]}
  if isinstance(value, str) and value.endswith('/'):
    return {title: [p for p in made.pages() if p.startswith(value)]}
  return entry
