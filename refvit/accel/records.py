"""Figures that others' tools gave for single GEMMs, as records: those that travel with the package,
or larger files of the same kind in a folder.

    scalesim   scalesim.json           SCALE-Sim 3.0.0 (Samajdar et al. 2018)
    rtl        rtl_cycles.json         a SystemVerilog array under Icarus Verilog 11
    zigzag     zigzag_reference.json   ZigZag 3.9.1 (Mei et al. 2021) on its tpu_like machine
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

Record = dict[str, Any]
FILES = {
    "scalesim": "scalesim.json",
    "rtl": "rtl_cycles.json",
    "zigzag": "zigzag_reference.json",
}
SIZES = ("M", "K", "N")
COLUMNS = {
    "scalesim": (
        *("array_rows", "array_cols", "dataflow", *SIZES, "folds", "cycles_per_fold", "cycles"),
        *("scalesim_reported_total_cycles", "mapping_efficiency_pct", "overall_util_pct"),
        *("scalesim_overall_util_pct", "compute_util_pct_as_reported"),
        *("sram_ifmap_reads", "sram_filter_reads"),
        *("sram_ofmap_writes_true", "sram_ofmap_writes_as_reported"),
        *("dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes"),
        *("ifmap_sram_kB", "filter_sram_kB", "ofmap_sram_kB"),
    ),
    "rtl": ("R", "C", "dataflow", "overlap", *SIZES, "folds", "cycles", "first_output_cycle"),
    "zigzag": ("run", "layer", *SIZES, "ideal_cycles", "plus_offload"),
}
REQUIRED = {  # the rest is compared where a record has it: DRAM words only in whole runs
    "scalesim": ("array_rows", "array_cols", "dataflow", *SIZES, "cycles"),
    "rtl": ("R", "C", "dataflow", "overlap", *SIZES, "cycles"),
    "zigzag": COLUMNS["zigzag"],
}


def recorded(folder: Path | None = None) -> dict[str, list[Record]]:
    """Return the records of each tool: from `folder` those it has, else those of the package.

    Raises FileNotFoundError for a folder without any of the three files, ValueError for a file
    that is none of them.

    >>> {name: len(records) for name, records in recorded().items()}
    {'scalesim': 216, 'rtl': 55, 'zigzag': 21}
    """
    text = files("refvit.accel").joinpath("recorded.json").read_text(encoding="utf-8")
    kept = {
        name: [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        for name, table in json.loads(text).items()
    }
    return kept if folder is None else kept | read_folder(folder)


def read_folder(folder: Path) -> dict[str, list[Record]]:
    """Return the records of the files that `folder` has; errors as `recorded` says."""
    found = {name: folder / file for name, file in FILES.items() if (folder / file).is_file()}
    if not found:
        wanted = ", ".join(FILES.values())
        raise FileNotFoundError(f"no records in {str(folder)!r}: wanted one of {wanted}")
    return {name: _read(name, path) for name, path in found.items()}


def _read(name: str, path: Path) -> list[Record]:
    """The records of one file, each with every column, as the tool's own file has them."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        records = _layers(data) if name == "zigzag" else data["records"]
        flat = [r | (r.get("config") or {}) for r in records]
        rows = [_row(name, r) for r in flat]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{str(path)!r} has no records of {name}: {said}") from None
    if not rows:
        raise ValueError(f"{str(path)!r} has no records of {name}: it is empty")
    return rows


def _row(name: str, record: Record) -> Record:
    return {key: record[key] if key in REQUIRED[name] else record.get(key) for key in COLUMNS[name]}


def _layers(data: Any) -> list[Record]:
    return [
        layer | {"run": run} for run, about in data["runs"].items() for layer in about["layers"]
    ]
