"""The command ``facegen`` as a script and for ``python -m facegen``; see ``facegen.command``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder, or the current one, comes first on sys.path; the project's root must.
    root = str(Path(__file__).resolve().parent.parent)
    sys.path[: 0 if sys.flags.safe_path else 1] = [root]

    from facegen.command import main

    main()
