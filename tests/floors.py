"""Coverage floors: every branch of core and wire, 90 % of lines elsewhere."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

FLOORS = {"core": 100.0, "wire": 100.0}
ELSEWHERE = 90.0

root = ET.parse(Path("coverage.xml")).getroot()
failed = False
for package in root.iter("package"):
    name = str(package.get("name")).split(".")[-1]
    floor = FLOORS.get(name, ELSEWHERE)
    lines = 100 * float(package.get("line-rate", 0))
    branches = 100 * float(package.get("branch-rate", 0))
    if (name in FLOORS and min(lines, branches) < floor) or (lines < floor and name not in FLOORS):
        sys.stderr.write(
            f"{package.get('name')}: lines {lines:.1f} %, branches {branches:.1f} %, floor {floor} %\n"
        )
        failed = True
sys.exit(failed)
