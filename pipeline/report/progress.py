"""The page about a run at work: how far it is, what failed, and what was done before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from pipeline.executions import Execution
from pipeline.output import Status
from pipeline.pace import Pace
from pipeline.report.template import environment, text

EXECUTIONS_SHOWN = 30


def render_progress(
    url: str, status: Status, pace: Pace | None, executions: Sequence[Execution], seen: datetime
) -> str:
    """The page, UTF-8 text, which stands alone as the report does. seen: when storage was asked, UTC."""
    counts = status.counts
    return (
        environment()
        .from_string(text("progress.html"))
        .render(
            url=url,
            css=Markup(text("page.css")),
            status=status,
            pace=pace,
            figures=[
                ("photos", counts["photos"], False),
                ("restored", counts["restored"], False),
                ("without a face", counts["no_face"], False),
                ("quarantined", counts["rejected"], counts["rejected"] > 0),
                ("faces", counts["faces"], False),
                ("units", status.units, False),
            ],
            stages=sorted(status.seconds.items(), key=lambda item: -item[1]),
            executions=list(reversed(executions))[:EXECUTIONS_SHOWN],
            seen=seen.isoformat(timespec="seconds"),
        )
    )
