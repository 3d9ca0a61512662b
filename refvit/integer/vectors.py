"""Test vectors: what enters and leaves every operator of one integer forward, as files.

Who implements an operator needs its folder and its clause of the specification, nothing else:

    DIR/manifest.json                 shapes, widths, digests, and where inputs come from
    DIR/image                         the codes of the image
    DIR/<site>/input0 weight bias ... inputs, learned codes and constants
    DIR/<site>/expected               the result
    DIR/<site>/output                 the same; yours goes here (`refvit.integer.replay`)

Each name but the manifest's is a pair of files, .npy and .hex (`refvit.integer.codefile`).
`testbench.sv` beside this file reads one folder, of a linear with signed codes and no zero point.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.files import whole_directory, write_text
from refvit.integer.artefact import SPECIFICATION
from refvit.integer.codefile import Layout, write_codes
from refvit.integer.engine import IntegerModel
from refvit.integer.recording import RecordingOps, Step
from refvit.integer.replay import (
    EXPECTED,
    FORMAT,
    MANIFEST,
    VERSION,
    read_manifest,
    select,
)
from refvit.models import forward, workload_records
from refvit.progress import Progress

IntArray = NDArray[Any]
NO_SITE = ("input", "output", "param")  # they compute nothing


def write_vectors(
    engine: IntegerModel, codes: IntArray, out: str | Path, sites: str = "*", image: str = ""
) -> dict[str, Any]:
    """Write the vectors of a forward of `codes` [B, C, H, W] to the directory `out`; return its
    manifest.

    `sites` is a glob of the sites to write, `image` what the manifest calls the codes. All is
    written beside `out` and then renamed: nothing half-written stays. Earlier vectors are replaced.
    Raises FileExistsError for an `out` that holds anything else, ValueError for codes that the
    engine does not run or a glob that matches no site.
    """
    out = Path(out)
    engine.check_codes(codes)
    records = [r.site for r in workload_records(engine.config) if r.op not in NO_SITE]
    chosen = select(records, sites)
    check_replaceable(out)
    entries: list[dict[str, Any]] = []
    bar = Progress("vectors", len(chosen), "sites")

    def seen(step: Step) -> None:
        if step.site in chosen:
            entries.append(write_site(folder, engine, step))
            bar.advance(1, step.site)

    with whole_directory(out) as folder:
        pixels = write_codes(folder, "image", codes, layout_of(engine, "input", codes.shape))
        forward(RecordingOps(engine.ops(), seen), codes, engine.constants, engine.config)
        manifest = describe(engine) | {"image": {"name": image, **pixels}, "sites": entries}
        write_text(folder / MANIFEST, folded_json(manifest) + "\n")
    bar.close()
    return manifest


def describe(engine: IntegerModel) -> dict[str, Any]:
    """Return what the manifest says of the engine and of itself."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "specification": SPECIFICATION,
        "engine": engine.digest,
        "kernels": engine.kernels,
        "recipe": engine.recipe,
    }


def folded_json(value: Any, width: int = 320, pad: str = "\n") -> str:
    """Return JSON in which whatever fits into `width` characters has one line.

    >>> print(folded_json({"a": [1, 2], "b": {"c": 3}}, width=12))
    {
     "a": [1, 2],
     "b": {"c": 3}
    }
    """
    flat, deeper = json.dumps(value), pad + " "
    if len(flat) <= width or not isinstance(value, dict | list):
        return flat
    if isinstance(value, list):
        return f"[{deeper}{f',{deeper}'.join(folded_json(v, width, deeper) for v in value)}{pad}]"
    rows = (f"{json.dumps(key)}: {folded_json(v, width, deeper)}" for key, v in value.items())
    return f"{{{deeper}{f',{deeper}'.join(rows)}{pad}}}"


def layout_of(engine: IntegerModel, site: str, shape: tuple[int, ...]) -> Layout:
    """Return how codes of the value of `site`, an activation or a learned tensor, are written."""
    if site in engine.widths:
        return Layout(shape, engine.widths[site], True)
    grid = engine.grid(site)
    return Layout(shape, grid.bits, grid.lo < 0)


def write_site(folder: Path, engine: IntegerModel, step: Step) -> dict[str, Any]:
    """Write one operator's folder and return its entry of the manifest."""
    into = folder / step.site
    into.mkdir()
    files: dict[str, Any] = {}

    def write(name: str, codes: IntArray, layout: Layout, **more: Any) -> None:
        files[name] = write_codes(into, name, codes, layout) | more

    for k, x in enumerate(step.inputs):
        layout = layout_of(engine, x.site, x.q.shape)
        write(f"input{k}", x.q.codes, layout, source=x.site, moves=list(x.moves))
    if step.mask is not None:
        write("mask", step.mask.astype(np.uint8), Layout(step.mask.shape, 1, False))
    for name, tensor in engine.constants[step.site].items():
        bits = engine.widths.get(name, 8 * tensor.itemsize)
        layout = Layout(tensor.shape, bits, tensor.dtype.kind == "i")
        write(name.removeprefix(f"{step.site}."), tensor, layout)
    write(EXPECTED, step.output, layout_of(engine, step.site, step.output.shape))
    axis = {} if step.axis is None else {"axis": step.axis}
    return {"site": step.site, "op": step.op, **axis, "files": files}


def check_replaceable(out: Path) -> None:
    """Raise OSError unless `out` can become a directory of vectors without the loss of anything."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"no directory {str(out.parent)!r} to write {out.name!r} to")
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{str(out)!r} is not a directory; name a new one")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        entries = read_manifest(out)
    except (ValueError, OSError) as error:
        raise FileExistsError(f"{str(out)!r} exists and holds no vectors ({error})") from None
    known = {MANIFEST, "image.npy", "image.hex"}
    for entry in entries:
        pairs = (f"{entry.site}/{name}" for name in entry.files)
        known |= {f"{name}.{kind}" for name in pairs for kind in ("npy", "hex")}
    found = (path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir())
    strange = sorted(set(found) - known)
    if strange:
        kept = "which refvit did not write; move it away or name another directory"
        raise FileExistsError(f"{str(out)!r} holds {strange[0]!r} too, {kept}")
