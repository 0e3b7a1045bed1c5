"""Report what pip-audit found, and which packages it could not check.

pip-audit calls a package that its advisory service does not know "skipped" and ends with success,
even if that is every package because the service cannot be reached.

Usage: ``python report.py FILE`` with the JSON that pip-audit wrote, or failed to write. Exit code
0: all packages were checked and none has a known vulnerability; 1: some have; 3: some were not
checked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def report(path: Path) -> tuple[list[str], int]:
    """The lines to print and the exit code."""
    if not path.is_file() or not path.stat().st_size:
        return ["not checked: no advisory service was reached"], 3
    packages = json.loads(path.read_text("utf-8"))["dependencies"]
    checked = [each for each in packages if "skip_reason" not in each]
    lines = [f"checked {len(checked)} of {len(packages)} packages"]
    for each in checked:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            lines.append(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    if len(lines) > 1:
        return lines, 1
    if len(checked) < len(packages) or not packages:
        skipped = [each["name"] for each in packages if "skip_reason" in each]
        lines.append(f"not checked: {', '.join(skipped) if checked else 'all of them'}")
        return lines, 3
    return lines, 0


if __name__ == "__main__":
    printed, code = report(Path(sys.argv[1]))
    sys.stdout.write("\n".join(printed) + "\n")
    sys.exit(code)
