"""The pages of the site that are made from the sources, not written."""
