"""The ledger: who moved which model to where, when, why and on what evidence, as rows that nobody can change unseen.

In: what was done (register, promote, roll back, …) with the hashes of the files that it rests on. Out: rows in a
database, each with the hash of the one before; from them alone it can be told which version is champion, and why.
Open first: entry.py (a row), then chain.py (what rows say) and table.py (where they are kept).
"""
