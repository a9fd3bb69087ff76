"""Measuring the choice of (N, tau): a mixed collection, every pair of a grid tried on every face, and rules compared.

    shards ─ read ──> Degrade ──────────> Search ──────────────────> Measure ──> faces/UNIT.parquet ──> table, curves
             tasks    a setting a photo   as a run, then the grid    tasks

`rules.py` says which candidate each rule would take; what a rule may know of the truth is said there.
"""
