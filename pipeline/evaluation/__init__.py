"""Measuring the whole method: sharp faces are degraded by Eq. 13, restored by the stages of a run, and compared.

    shards ─ read ──> Degrade ────> Restore ──> Enhance ──> Measure ──> faces/UNIT.parquet ──> table, sheets
             tasks    every setting      as in a run        tasks

A unit's results are one object, created if absent; the table is made from what storage holds and nothing else.
"""
