"""The seed command: sub-commands made from configs; a user's mistake becomes one message and exit code 2."""

import errno
import inspect
import os
import re
import time
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any

import typer

import seedcli
from seedcli.base import config as options
from seedcli.base.errors import ConfigError, SeedError
from seedcli.configs import EXAMPLES, VERBS

MANNER = "Recipe and folder"

app = typer.Typer(
    name="seed",
    help="End-to-end dense retrieval: pre-train (SEED-Encoder), fine-tune, encode, index, search, evaluate.",
    epilog="A whole chain in one file: seed run recipes/quickstart.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    # Threads that spin long while they wait take the cores from whoever has work: beside another busy program, a step
    # of a tiny model took 1.8 to 4 times as long without this bound; on quiet cores no cost of it was measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    app()


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"seed {seedcli.__version__}")
        raise typer.Exit


@contextmanager
def mistakes() -> Iterator[None]:
    """Turn what a user can mend into a message and exit code 2; a bug keeps its traceback."""
    from seedcli import console

    try:
        yield
    except SeedError as error:
        console.fail(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.fail("interrupted; repeat the command to go on")
        raise typer.Exit(130) from None
    except Exception as error:
        number = system_error(error)
        if number not in {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG}:
            raise
        place = getattr(error, "filename", None) or "writing"
        console.fail(f"{place}: {os.strerror(number)}; nothing finished is lost, repeat the command to go on")
        raise typer.Exit(2) from None


def system_error(error: Exception) -> int:
    """The system's number of an error, 0 for others. Libraries in Rust (safetensors) tell it in their message alone."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return (isinstance(error, OSError) and error.errno) or (int(found[1]) if found else 0)


def add_verb(verb: str, config: type) -> None:
    """A sub-command whose flags are the config's options."""
    known = list(options.options(config))

    def command(**given: Any) -> None:
        with mistakes():
            manner = {name: given.pop(name) for name in ("recipe", "show", "overwrite")}
            flags = {
                o.key: given[name(o)] for o in known if options.RARE not in o.marks and given[name(o)] not in (None, [])
            }
            flags |= options.parse_assignments(given["set_"] or [])
            run_verb(verb, config, flags, **manner)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter(option) for option in known if options.RARE not in option.marks] + manner_parameters()
    )
    example = "Example: " + EXAMPLES[verb]
    rare = [option.key for option in known if options.RARE in option.marks]
    more = f"\n\nBy recipe or --set only: {', '.join(rare)} (--show tells their values)." if rare else ""
    app.command(verb, help=escaped(paragraphs(config.__doc__ or "") + more), epilog=escaped(example))(command)


def run_verb(
    verb: str,
    config: type,
    flags: Mapping[str, Any],
    recipe: Path | None,
    show: bool,
    overwrite: bool,
) -> None:
    from seedcli import console

    written = options.read_recipe(recipe) if recipe else {}
    if "stages" in written:
        raise ConfigError(
            f"{recipe}: a recipe of stages; run it with seed run, or --recipe a file of {verb}'s own options"
        )
    if show:
        console.print_plain(options.dump_yaml(shown(config, written, flags, str(recipe))))
        return
    resolved: Any = options.resolve(config, written, flags, str(recipe))
    if getattr(resolved, "question", None) is not None:
        from seedcli.stages.search import answer

        console.hits(answer(resolved, console.Screen()))
        return
    perform(verb, resolved, overwrite)


def perform(verb: str, config: Any, overwrite: bool) -> None:
    from seedcli import console
    from seedcli.stages import stage

    began = time.time()
    manifest = stage.perform(verb, config, console.Screen(), overwrite)
    if stage.first_process():
        console.result(manifest, config.out, ran=manifest.started >= began)
        if verb == "evaluate":
            console.report(config.out)


def shown(config: type, recipe: Mapping[str, Any], flags: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All options with their values, as a recipe; what is missing is left empty."""
    empty = {o.key for o in options.options(config) if o.default is MISSING and recipe.get(o.key) is None}
    needed = dict.fromkeys(empty - flags.keys(), "")
    return options.plain(options.resolve(config, recipe, {**needed, **flags}, where)) | dict.fromkeys(needed)


@app.command("run")
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The YAML file that names the stages.")],
    out: Annotated[Path | None, typer.Option(help="The folder for all stages, instead of the recipe's own.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Run this stage alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run and why; run nothing.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change an option; repeatable.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print every stage with all its options; run nothing.")] = False,
) -> None:
    """Run the stages of a recipe in order; what is done stays, what was interrupted goes on.

    A stage is made anew when its options or inputs have changed; its old folder is kept as NAME.old-1.
    Ends with the table of the last evaluation.
    """
    from seedcli import console

    with mistakes():
        written, assignments = options.read_recipe(recipe), options.parse_assignments(set_ or [])
        from seedcli.stages import run as stages

        steps = stages.read_steps(written, out, assignments, str(recipe))
        if show:
            plans = {step.name: {"verb": step.verb, **options.plain(step.config)} for step in steps}
            console.print_plain(options.dump_yaml({"stages": plans}))
            return
        screen = console.Screen()
        if dry_run:
            judged = stages.verdicts(stages.chosen(steps, only, until), screen)
            console.verdicts([(step.name, step.verb, *verdict) for step, verdict in judged])
            return
        began, last = time.monotonic(), None
        for step in stages.chosen(steps, only, until):
            verdict = stages.judge(step, set(), screen)
            console.title(f"[{steps.index(step) + 1}/{len(steps)}] {step.name} (seed {step.verb}): {verdict.reason}")
            if verdict.state != "done":
                console.result(stages.make(step, verdict, screen), step.config.out, ran=True)
            last = step.config.out if step.verb == "evaluate" else last
        console.title(f"{recipe}: {console.duration(time.monotonic() - began)}")
        if last is not None:
            console.report(last)


def parameter(option: options.Option) -> inspect.Parameter:
    """An option as typer takes it: text, to be cast and checked at one border together with recipes."""
    if options.ARGUMENT in option.marks:
        return keyword(name(option), str | None, typer.Argument(metavar=option.key.upper(), help=escaped(option.doc)))
    flag, default = option.flag, option.default
    panel = inspect.cleandoc(option.group.__doc__ or "").splitlines()[0] if "." in option.key else "Options"
    common: dict[str, Any] = {"rich_help_panel": escaped(panel), "show_default": False}
    if option.hint is bool:
        note = f"[default: {flag[2:] if default else 'no-' + flag[2:]}]"
        hint = typer.Option(f"{flag}/--no-{flag[2:]}", help=escaped(f"{option.doc} {note}"), **common)
        return keyword(name(option), bool | None, hint)
    repeated = typing.get_origin(option.hint) is list
    if default is MISSING:
        note = " [required]"
    else:
        written = " ".join(map(str, default)) if repeated else default
        note = f" [default: {written}]" if default not in (None, []) else ""
    hint = typer.Option(flag, help=escaped(option.doc + note), metavar=options.hint_name(option.hint), **common)
    return keyword(name(option), list[str] | None if repeated else str | None, hint)


def manner_parameters() -> list[inspect.Parameter]:
    """The options of every verb."""
    return [
        keyword("recipe", Path | None, typer.Option("--recipe", metavar="FILE", rich_help_panel=MANNER,
                help="Options from a YAML file; flags win over it.")),
        keyword("set_", list[str] | None, typer.Option("--set", metavar="KEY=VALUE", rich_help_panel=MANNER,
                help="Any option by its dotted key; repeatable.")),
        keyword("show", bool, typer.Option("--show", rich_help_panel=MANNER,
                help="Print all options with their values as a recipe; run nothing."), False),
        keyword("overwrite", bool, typer.Option("--overwrite", rich_help_panel=MANNER,
                help="Lose what the folder holds, if seed made it."), False),
    ]  # fmt: skip


def keyword(name: str, kind: Any, hint: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, hint])


def name(option: options.Option) -> str:
    return option.key.replace(".", "__")


def paragraphs(text: str) -> str:
    """A docstring with its lines joined, but for blank ones."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def escaped(text: str) -> str:
    """Square brackets as written: rich takes them for markup."""
    return text.replace("[", "\\[")


for _verb, _config in VERBS.items():
    add_verb(_verb, _config)
