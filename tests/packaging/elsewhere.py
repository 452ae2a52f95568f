# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Build a package of another working tree, as another machine would; its folder, and what to build, are arguments."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Build, and print the path of the package."""
    os.umask(0o077)
    root, said, out = map(Path, sys.argv[1:])
    sys.path.insert(0, str(root / "packaging"))
    import deb

    name, epoch, version, project, files = json.loads(said.read_text())
    package = next(package for package in deb.PACKAGES if package.name == name)
    print(deb.build(package, deb.Source(root, tuple(files), epoch, version, project), out))


if __name__ == "__main__":
    main()
