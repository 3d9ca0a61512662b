"""Keep the figures of recorded cycles: `python make_accel_cycles.py REFERENCE_FOLDER`.

The folder holds scalesim.json (SCALE-Sim 3.0.0: cycles and SRAM counts) and rtl_cycles.json (a
SystemVerilog array under Icarus Verilog). The sizes and counts of every record are kept.
"""

import json
import sys
from pathlib import Path

source = Path(sys.argv[1])
scalesim = json.loads((source / "scalesim.json").read_text())["records"]
rtl = json.loads((source / "rtl_cycles.json").read_text())["records"]
kept = {
    "scalesim": [
        {
            "gemm": [r["M"], r["K"], r["N"]],
            "rows": r["array_rows"],
            "cols": r["array_cols"],
            "dataflow": r["dataflow"],
            "cycles": r["cycles"],
            "reads": [r["sram_ifmap_reads"], r["sram_filter_reads"]],
        }
        for r in scalesim
    ],
    "rtl": [
        {
            "gemm": [r["M"], r["K"], r["N"]],
            "rows": r["R"],
            "cols": r["C"],
            "dataflow": r["dataflow"],
            "overlap": bool(r["overlap"]),
            "cycles": r["cycles"],
        }
        for r in rtl
    ],
}
target = Path(__file__).with_name("accel_cycles.json")
lines = {
    name: "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]"
    for name, records in kept.items()
}
target.write_text("{" + ",\n".join(f'"{name}": {text}' for name, text in lines.items()) + "}\n")
