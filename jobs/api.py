"""The jobs for Python code.

from jobs.api import evaluate, plan, restore, status

summary = restore({"input": "shards/", "output": "out"})
print(summary.report, summary.status.counts)
"""

from jobs.evaluate import EvaluationSummary, evaluate
from jobs.plan import Estimate, plan
from jobs.restore import Summary, restore
from jobs.status import status

__all__ = ["Estimate", "EvaluationSummary", "Summary", "evaluate", "plan", "restore", "status"]
