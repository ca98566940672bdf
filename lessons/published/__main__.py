"""``python -m lessons.published FOLDER``: the lessons as pages."""

import sys
from pathlib import Path

from compression import home
from compression.errors import CompressionError

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit("usage: python -m lessons.published FOLDER")
try:
    with home.optional():
        from lessons.published import publish

        names = publish(Path(sys.argv[1]))
except (CompressionError, OSError) as error:
    sys.exit(f"error: {error}")
print(f"{sys.argv[1]}/index.html: {len(names)} lessons")
