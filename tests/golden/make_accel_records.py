"""Keep the recorded figures that travel with the package: `python make_accel_records.py FOLDER`.

The folder holds scalesim.json (SCALE-Sim 3.0.0: cycles, SRAM and DRAM counts), rtl_cycles.json (a
SystemVerilog array under Icarus Verilog) and zigzag_reference.json (ZigZag 3.9.1). Every record is
kept, with the columns that `refvit validate` compares, in `refvit/accel/recorded.json`.
"""

import json
import sys
from pathlib import Path

from refvit.accel.records import COLUMNS, read_folder

lines = []
for name, records in read_folder(Path(sys.argv[1])).items():
    columns = COLUMNS[name]
    rows = ",\n".join(json.dumps([r.get(key) for key in columns]) for r in records)
    lines.append(f'"{name}": {{"columns": {json.dumps(columns)}, "rows": [\n{rows}\n]}}')
target = Path(__file__).parents[2] / "refvit" / "accel" / "recorded.json"
target.write_text("{" + ",\n".join(lines) + "}\n")
