"""Pages of the documentation site that are made from the code and the results in this repository.

Every function returns Markdown and imports neither MkDocs nor torch; ``docs/hooks.py`` puts the pages into the site.
"""
