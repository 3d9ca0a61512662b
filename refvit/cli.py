"""The command `refvit`: the main job without arguments, and sub-commands, each with `--json`.

What a user can get wrong ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import refvit
from refvit import demo, inspect_model
from refvit.check_command import add_check, run_check
from refvit.command import stop_once
from refvit.compare_command import add_compare, run_compare
from refvit.doctor import add_doctor, run_doctor
from refvit.evaluate_command import add_evaluate, run_evaluate
from refvit.explore_command import add_explore, run_explore
from refvit.hub import add_pull, run_pull
from refvit.integer.specification import add_spec, run_spec
from refvit.lockstep_command import add_lockstep, run_lockstep
from refvit.models import tuples
from refvit.quantize_command import (
    add_profiles,
    add_prove,
    add_quantize,
    run_profiles,
    run_prove,
    run_quantize,
)
from refvit.roofline_command import add_roofline, run_roofline
from refvit.routes_command import add_routes, run_routes
from refvit.simulate_command import add_simulate, run_simulate
from refvit.synthesize_command import add_synthesize, run_synthesize
from refvit.train_command import add_train, run_train
from refvit.validate_command import add_validate, run_validate
from refvit.vectors_command import add_vectors, run_vectors

Command = Callable[[argparse.Namespace], tuple[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, 2 for anything the user can mend, or 1 where
    a command's data is an object that says `"ok": false`: what it checked is not so."""
    try:
        if argv is None:
            stop_once()
        args = build_parser().parse_args(argv)
        text, data = args.run(args)
        _print(json.dumps(data, indent=2) if args.json else text)
        return int(isinstance(data, dict) and data.get("ok") is False)
    except (ValueError, TypeError, OSError, OverflowError, ImportError) as error:
        return _complain(error)
    except KeyboardInterrupt as stop:
        if argv is None:  # Python resets a handler of its own while it ends, but not this
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write(f"\nrefvit: stopped{f'; {stop}' if str(stop) else ''}\n")
        return 130


def _complain(error: Exception) -> int:
    """Say what is wrong in one line."""
    said = " ".join(str(error).split())
    sys.stderr.write(f"refvit: error: {said if len(said) < 900 else said[:900] + ' ...'}\n")
    return 2


def _print(text: str) -> None:
    """Write `text`; a reader that closes the pipe early, as `head` does, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = None  # nothing is left to flush at exit
    except OSError:
        sys.stdout = None
        raise


class _Parser(argparse.ArgumentParser):
    """argparse, with errors in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every sub-command."""
    parser = _Parser(
        "refvit",
        description="The golden model of a quantized Vision Transformer. Without a command: a "
        "shipped model in float, simulated and integer-only on fresh images, then on hardware.",
    )
    parser.add_argument("--version", action="version", version=f"refvit {refvit.__version__}")
    parser.set_defaults(run=_demo)
    _demo_options(parser)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=_Parser)
    for name, (run, about, options) in COMMANDS.items():
        _add(commands, name, run, about, options)
    return parser


def _add(
    commands: Any, name: str, run: Command, about: str, options: Callable[[Any], None]
) -> None:
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    options(parser)
    # SUPPRESS: without the flag here, the one before the command holds.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text"
    )
    parser.set_defaults(run=run)


def _model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a shipped name, hf:org/name, a directory or a file; without weights a variant",
    )
    parser.add_argument(
        "--set",
        type=_field,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="known",
        help="a field of the configuration that a file alone does not tell, as in heads=4",
    )


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--images", type=_positive, default=1000, metavar="N", help="fresh images (1000)"
    )
    parser.add_argument("--seed", type=_natural, default=0, help="seed of the images (0)")


def _demo(args: argparse.Namespace) -> tuple[str, Any]:
    result = demo.run("nano_vit", args.images, args.seed)
    return demo.text(result), demo.as_json(result)


def _predict_options(parser: argparse.ArgumentParser) -> None:
    _model_option(parser)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="an image file that Pillow reads")
    parser.add_argument("--top", type=_positive, default=5, help="how many classes to show (5)")


def _predict(args: argparse.Namespace) -> tuple[str, Any]:
    model = refvit.load(args.model, **dict(args.known))
    return inspect_model.predict(model, args.image, args.top)


def _info(args: argparse.Namespace) -> tuple[str, Any]:
    return inspect_model.info(args.model, args.all, dict(args.known))


def _info_options(parser: argparse.ArgumentParser) -> None:
    _model_option(parser)
    parser.add_argument("--all", action="store_true", help="every layer, also of blocks alike")


def _field(text: str) -> tuple[str, Any]:
    """Return (field, value) of `field=value`; the value is JSON where it can be."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"wanted FIELD=VALUE, as in heads=4, got {text!r}")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value
    return name, tuples(parsed)


def _with(options: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return what adds a model and then `options`."""

    def both(parser: argparse.ArgumentParser) -> None:
        _model_option(parser)
        options(parser)

    return both


def _at_least(least: int) -> Callable[[str], int]:
    """Return an argparse type: a whole number of at least `least`."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number of at least {least}, got {text!r}")
        return int(text)

    return number


_positive, _natural = _at_least(1), _at_least(0)

COMMANDS: dict[str, tuple[Command, str, Callable[[Any], None]]] = {
    "predict": (_predict, "classify one image", _predict_options),
    "info": (_info, "layers, shapes, parameters and MACs of a model", _info_options),
    "evaluate": (run_evaluate, "accuracy on labelled images", _with(add_evaluate)),
    "quantize": (run_quantize, "compile a model to integers", _with(add_quantize)),
    "synthesize": (run_synthesize, "images made by the model, to calibrate on",
                   _with(add_synthesize)),
    "compare": (run_compare, "methods and widths compared", _with(add_compare)),
    "routes": (run_routes, "calibrated, trained, without data: compared", _with(add_routes)),
    "prove": (run_prove, "the range of every integer of a model", _with(add_prove)),
    "profiles": (run_profiles, "kernels compared: accuracy, error, cost", _with(add_profiles)),
    "lockstep": (run_lockstep, "the engine against its definition, by operator",
                 _with(add_lockstep)),
    "vectors": (run_vectors, "test vectors, written or checked", add_vectors),
    "spec": (run_spec, "the specification of the integer engine", add_spec),
    "check": (run_check, "the exercises of the course, or a file of answers judged", add_check),
    "doctor": (run_doctor, "is this machine's arithmetic exact", add_doctor),
    "roofline": (run_roofline, "operations, bytes and attainable speed, on machines and GPUs",
                 _with(add_roofline)),
    "validate": (run_validate, "the accelerator against recordings, papers and silicon",
                 add_validate),
    "simulate": (run_simulate, "cycles, traffic and energy of every layer", _with(add_simulate)),
    "explore": (run_explore, "machines times recipes, and the Pareto front", _with(add_explore)),
    "train": (run_train, "train a model, or on from one, also quantized", add_train),
    "pull": (run_pull, "download a model of the Hugging Face Hub", add_pull),
}  # fmt: skip
