"""Every table and figure of the papers, printed beside measured."""
