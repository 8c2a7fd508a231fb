"""Command line: one verb for each stage; a verb reads its inputs, calls one function and prints the result.

Open first: main.py (the list of verbs), options.py (places of files, errors as exit codes).
"""
