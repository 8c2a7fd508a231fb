"""Preference data: from raw files to the prepared table.

In: files of preferences in many formats, or the support world (world.py), which has a known truth.
Out: preferences.parquet, its quarantine with a reason for every refused row, a summary, Data Docs.
Open first: prepare.py (the steps in order). A file format is read in raw_files.py; how a file's
columns are read is decided in reading.py, and who won in scales.py.
"""
