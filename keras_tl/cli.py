"""The command line. TensorFlow is imported only by commands that work with it."""

import argparse
import importlib.metadata
import io
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from keras_tl.argument_parser import ArgumentParser
from keras_tl.cli_options import (
    as_train_options,
    audit_options,
    column_options,
    compare_options,
    export_options,
    lr_find_options,
    threshold_options,
    train_options,
)
from keras_tl.cli_streaming import (
    extract,
    extract_options,
    predict,
    predict_options,
    split_pipeline_options,
)
from keras_tl.errors import InputError, did_you_mean
from keras_tl.exit_codes import exit_code_of
from keras_tl.place_options import PLACE, leave_to_chief, place_of, together
from keras_tl.quiet import load_quietly

log = logging.getLogger("keras_tl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The arguments after `keras-tl`; by default the process's own.

    Returns:
        0 when all went well, 2 for input that cannot be used, 1 where a check of keras_tl's own
        failed, 3 where a strict audit found something serious, 75 where another process of a
        training is gone, 130 when interrupted; if SIGTERM ends a training, its state is kept for
        the same command to resume, and SystemExit(143) is raised.
    """
    own, pipeline_options = split_pipeline_options(sys.argv[1:] if arguments is None else arguments)
    options, unknown = _parser().parse_known_args(own)
    if pipeline_options:
        options.pipeline_options = pipeline_options
    if unknown:
        options.command.error(f"unrecognized arguments: {' '.join(unknown)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Take GPU memory only as needed, also in commands that choose no strategy.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a class's name gets its code; files of a table have their own.
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("keras_tl").setLevel(logging.INFO)
    return exit_code_of(lambda: options.run(options), "keras-tl")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="keras-tl", description="Transfer learning for Keras 3.")
    version = f"%(prog)s {importlib.metadata.version('keras_tl')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, command=command)
        return command

    train_options(add("train", _train, "Train, measure and export a model of images or texts."))
    audit_options(add("audit", _audit, "Look at a data set before training."))
    compare_options(add("compare", _compare, "Pick a backbone before training one."))
    lr_find_options(add("lr-find", _lr_find, "Try rates from low to high before training."))
    command = add("evaluate", _evaluate, "Measure a run's model on labelled images or texts.")
    command.add_argument("run_folder", metavar="RUN", help="the folder of a finished run")
    command.add_argument("data", metavar="DATA", help="as for train")
    column_options(command, groups=False)
    predict_options(add("predict", predict, "Predict images or texts with a run's model."))
    text = "Write embeddings of any number of images or texts: what a backbone makes of them."
    extract_options(add("extract", extract, text))
    text = "Choose a run's thresholds on its val split, and store them in what it exports."
    threshold_options(add("threshold", _threshold, text))
    export_options(add("export", _export, "Write a run's model for LiteRT or ONNX Runtime."))
    command = add("report", _report, "Write a run's report again, or compare several runs.")
    command.add_argument("run_folders", metavar="RUN", nargs="+", help="folders of finished runs")
    about = "where the page of several runs goes (default: comparison.html)"
    command.add_argument("--out", metavar="FILE", default=argparse.SUPPRESS, help=about)
    command = add("backbones", _backbones, "List the pretrained backbones.")
    command.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="such as mobile"
    )
    command = add(
        "cache",
        _cache,
        "List the stored outputs of frozen backbones, or clear all that is remembered.",
    )
    command.add_argument("action", choices=("list", "clear"), help="what to do")
    command = add("demo", _demo, "Find defective solar cells: the whole job on real photographs.")
    command.add_argument(
        "--out", metavar="RUN", default="runs/solar-cells", help="the run's folder"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the split")
    return parser


def _given(options: argparse.Namespace, *but: str) -> dict[str, Any]:
    return {k: v for k, v in vars(options).items() if k not in ("run", "command", *but)}


def _train(options: argparse.Namespace) -> int:
    from keras_tl.config_files import beside, make_config, read_config

    settings = read_config(options.config) if options.config else {}
    config = make_config(beside(settings, _given(options, "config", *PLACE)))
    job = load_quietly("keras_tl.job")
    run = job.train(config, place=place_of(options), verbose=_verbose())
    # With several processes, perhaps only the chief can see the folder.
    return _show_run(run) if run.is_whole else 0


def _audit(options: argparse.Namespace) -> int:
    from keras_tl.files import check_file_path

    if options.json:
        check_file_path(options.json)
    own = {name: vars(options)[name] for name in ("data", "labels")}
    columns = _given(options, *own, "strict", "json")
    found = load_quietly("keras_tl.auditing").audit(**own, verbose=_verbose(), **columns)
    print(found)
    if options.json:
        found.write(options.json)
    return found.exit_code(options.strict)


def _compare(options: argparse.Namespace) -> int:
    from keras_tl.compare_config import CompareConfig

    config = CompareConfig(**_given(options, *PLACE))
    job = load_quietly("keras_tl.comparison")
    with together():
        comparison = job.compare(config, place=place_of(options))
        leave_to_chief()
        print(import_module("keras_tl.comparison_table").format_comparison(comparison))
        best = ["--backbone", comparison.ranking[0].backbone]
        told = shlex.join([config.data, *as_train_options(config), *best])
        print(f"Train with     keras-tl train {told} --out RUN")
    return 0


def _lr_find(options: argparse.Namespace) -> int:
    from keras_tl.config_files import make_config
    from keras_tl.files import check_file_path

    sweep = {name: vars(options)[name] for name in ("fine_tuning", "steps")}
    config = make_config(_given(options, *sweep, *PLACE))
    check_file_path(config.out)
    job = load_quietly("keras_tl.rate_finding")
    with together():
        found = job.find_rates(config, **sweep, place=place_of(options), verbose=_verbose())
        leave_to_chief()
        for each in found:
            print(f"\nPhase {each.phase}:\n{each}")
        write = import_module("keras_tl.reporting.learning_rates").write_learning_rates
        page = write(found, f"{config.backbone} on {config.data}", config.out)
        print(f"\nThe curve is in {page}")
    return 0


def _verbose() -> int:
    """Progress bars for people; one line an epoch for files."""
    return 1 if sys.stdout.isatty() else 2


def _show_run(run: Any) -> int:
    from keras_tl.reporting.baseline import baseline_text

    metrics, nouns = run.metrics, "texts" if run.config.has_texts else "images"
    print(f"\nMeasured on {metrics['note']} ({metrics['images'][metrics['measured_on']]} {nouns}):")
    _show_figures(metrics, run)
    if beside := baseline_text(metrics, nouns).replace("\u00a0", " "):
        print(f"\n{beside}")
    print(f"\nEverything is in {run.folder}")
    print(f"  Keras model  {run.path(run.MODEL)}")
    print(f"  SavedModel   {run.path(run.SAVED_MODEL)}")
    print(f"  figures      {run.path(run.METRICS)}")
    print(f"  report       {run.path(run.REPORT)}")
    config = run.config
    what = ("PAIRS.csv" if config.pair else '"A TEXT"') if config.has_texts else "FILE_OR_FOLDER"
    print(f"Predict with   keras-tl predict {run.folder} {what}")
    return 0


def _show_figures(metrics: dict[str, Any], run: Any) -> None:
    from keras_tl.evaluation.tables import mistakes, summary

    print(summary(metrics))
    if confused := mistakes(metrics, run.info.class_names):
        print(confused)


def _evaluate(options: argparse.Namespace) -> int:
    from keras_tl.runs import load_run

    run = load_run(options.run_folder)
    columns = _given(options, "run_folder", "data")
    evaluate_run = load_quietly("keras_tl.measuring").evaluate_run
    metrics = evaluate_run(run, options.data, verbose=_verbose(), **columns)
    _show_figures(metrics, run)
    return 0


def _threshold(options: argparse.Namespace) -> int:
    from keras_tl.runs import load_run

    run = load_run(options.run_folder)
    thresholding = load_quietly("keras_tl.thresholding")
    rule = _given(options, "run_folder", "positive")
    if "reset" in rule:
        if options.positive is not None:
            raise InputError("--reset alone", "--reset with --positive", "Leave one of them out.")
        thresholding.set_thresholds(run, ())
    else:
        name, share = next(iter(rule.items()))
        asked = (share,) if name == "best" else (name, share)
        thresholding.choose_thresholds(run, *asked, positive=options.positive)
    metrics = run.metrics
    print(f"Measured on {metrics.get('note', 'its split')}, at the new thresholds:")
    _show_figures(metrics, run)
    return 0


def _export(options: argparse.Namespace) -> int:
    from keras_tl.runs import load_run

    run = load_run(options.run_folder)
    names = (options.format.split(","), options.precision.split(","))
    load_quietly("keras_tl.exporting").export_run(
        run, *names, options.out, options.tolerance, done=_show_export
    )
    return 0


def _show_export(folder: Any) -> None:
    print(f"Predict with   python {folder / 'predict.py'} FILE  (see {folder / 'README.md'})")


def _report(options: argparse.Namespace) -> int:
    from keras_tl.runs import load_run

    out = getattr(options, "out", "comparison.html")
    runs = [load_run(folder) for folder in options.run_folders]
    if len(runs) == 1:
        if "out" in options:
            fix = "Leave it out: the report is in the run's folder."
            raise InputError("several runs for --out", "one", fix)
        print(load_quietly("keras_tl.reporting.page").write_report(runs[0]))
    else:
        print(load_quietly("keras_tl.reporting.comparison").write_comparison(runs, out))
    return 0


def _backbones(options: argparse.Namespace) -> int:
    from keras_tl.backbones import registry

    names = registry.names(options.pattern)
    if not names:
        encoders = "For texts: MiniLM, a Hugging Face folder, or keras_hub:PRESET."
        hint = did_you_mean(options.pattern, registry.names(), encoders)
        raise InputError("part of a backbone's name", repr(options.pattern), hint)
    print(f"{'name':<20} {'family':<18} {'size':>5} {'least':>6} {'blocks':>7}  weights' licence")
    for name in names:
        spec = registry.get(name)
        print(
            f"{spec.name:<20} {spec.family:<18} {spec.image_size:>5} {spec.min_image_size:>6} "
            f"{len(spec.blocks):>7}  {spec.license}"
        )
    return 0


def _cache(options: argparse.Namespace) -> int:
    store = load_quietly("keras_tl.feature_cache").FeatureStore()
    if options.action == "clear":
        freed = store.clear() + load_quietly("keras_tl.data.remembered").forget()
        print(f"{freed / 1e6:.1f} MB freed in {store.root.parent}")
        return 0
    stored = store.stored()
    print(f"{store.root}: {sum(item.size for item in stored) / 1e6:.1f} MB")
    for item in stored:
        shards = f"{item.shards} shard" + "s" * (item.shards != 1)
        what = shards if item.shards else "converted model"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_used))
        print(f"  {item.folder.name[:12]}  {item.size / 1e6:9.1f} MB  {what:<16}  used {used}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from keras_tl.recipes import solar_cells

    load_quietly("keras_tl.job")
    return _show_run(solar_cells.run(options.out, seed=options.seed, verbose=_verbose()))
