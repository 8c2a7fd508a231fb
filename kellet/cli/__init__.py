"""Command line: one verb for each stage.

In: files, and parameters with ``--params`` and ``--set``. Out: lines on the terminal, an exit code, the stage's files.
Open first: main.py (the list of verbs), options.py (places of files, errors as exit codes).
"""
