"""Reports: self-contained pages that open offline.

In: the folder of a run (run.py reads it), or of several. Out: report.html, compare.html, remedies.html.
Open first: page.py (the report's sections), judgements.py, svg.py (every drawing).
"""
