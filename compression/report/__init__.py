"""Reports: runs as one HTML file that opens anywhere, without a server and without a network.

``document(report(collect(runs, root)))``: which runs, the report is plain data (JSON), the document is the
page with these data, the style and the script inside. What draws is in ``assets/components`` and ``assets/report``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compression.lazy import on_first_use

if TYPE_CHECKING:
    from compression.report.content import report
    from compression.report.page import document
    from compression.report.sources import Source, collect
else:
    __getattr__, __dir__ = on_first_use(
        __name__,
        {
            "Source": "compression.report.sources",
            "document": "compression.report.page",
            "report": "compression.report.content",
            "collect": "compression.report.sources",
        },
    )

__all__ = ["Source", "collect", "document", "report"]
