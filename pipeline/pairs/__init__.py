"""Training pairs: the stages that make them of good faces, what they become, and the page about them.

shards ─ read ──> Target ──────────> MakePairs ────────> Commit ──> shards/, validation/, manifest/, rejects/
         tasks    find, align, gate  draw, DR2, blur ... shuffle,
                  actors             actors              split

Where near-duplicates are left out, a pass of its own goes before, see `search`.
"""
