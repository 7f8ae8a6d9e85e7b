"""The seed command: sub-commands made from configs; a user's mistake becomes one message and exit code 2."""

import inspect
import os
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import seedcli
from seedcli.base import config as options
from seedcli.base.errors import ConfigError, Interrupted, SeedError, refusal
from seedcli.base.manifest import read_manifest
from seedcli.base.verbs import GROUPS
from seedcli.configs import EXAMPLES, VERBS

if TYPE_CHECKING:
    from seedcli.console import Screen
    from seedcli.stages.run import Step

MANNER = "Recipe, folder and screen"
JSON = "Print the result as one JSON document, for scripts."
QUIET = "Tell mistakes alone; results are printed."
ASKED = {"help_option_names": ["-h", "--help"]}


class Manner(NamedTuple):
    """The options of every verb: how it is run, not what."""

    recipe: Path | None
    show: bool
    overwrite: bool
    json: bool
    quiet: bool


app = typer.Typer(
    name="seed",
    help="End-to-end dense retrieval: pre-train (SEED-Encoder), fine-tune, encode, index, search, evaluate.",
    epilog="A whole chain in one file: seed run recipes/quickstart.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=ASKED,
)
groups = {
    "model": typer.Typer(
        name="model",
        help="Look into models, and convert them.",
        no_args_is_help=True,
        context_settings=ASKED,
    )
}


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
        if first_process():  # it ends them all
            console.fail(str(error))
        raise typer.Exit(2) from None
    except Interrupted as stop:
        if first_process():
            console.Screen().say(str(stop))
        raise typer.Exit(128 + stop.number) from None
    except KeyboardInterrupt:
        if first_process():
            console.fail("interrupted; repeat the command to go on")
        raise typer.Exit(130) from None
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        place = getattr(error, "filename", None) or "writing"
        console.fail(f"{place}: {reason}; nothing finished is lost, repeat the command to go on")
        raise typer.Exit(2) from None


def first_process() -> bool:
    """Whether this is the process that speaks, of those that torchrun started."""
    return int(os.environ.get("RANK", 0)) == 0


def add_verb(verb: str, config: type) -> None:
    """A sub-command whose flags are the config's options."""
    known = list(options.options(config))

    def command(**given: Any) -> None:
        with mistakes():
            manner = Manner(**{name: given.pop(name) for name in Manner._fields})
            flags = {
                o.key: given[name(o)] for o in known if options.RARE not in o.marks and given[name(o)] not in (None, [])
            }
            flags |= options.parse_assignments(given["set_"] or [])
            run_verb(verb, config, flags, manner)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter(option) for option in known if options.RARE not in option.marks] + manner_parameters()
    )
    example = "Example: " + EXAMPLES[verb]
    rare = [option.key for option in known if options.RARE in option.marks]
    more = f"\n\nBy recipe or --set only: {', '.join(rare)} (--show tells their values)." if rare else ""
    place = groups[GROUPS[verb]] if verb in GROUPS else app
    place.command(verb, help=escaped(paragraphs(config.__doc__ or "") + more), epilog=escaped(example))(command)


def run_verb(verb: str, config: type, flags: Mapping[str, Any], manner: Manner) -> None:
    from seedcli import console

    recipe = manner.recipe
    written = options.read_recipe(recipe) if recipe else {}
    if "stages" in written:
        raise ConfigError(
            f"{recipe}: a recipe of stages; run it with seed run, or --recipe a file of {verb}'s own options"
        )
    if manner.show:
        console.print_plain(options.dump_yaml(shown(config, written, flags, str(recipe))))
        return
    if verb == "evaluate" and asks_for_lines_alone(written, flags):
        needless = {key: value for key, value in {"runs": [], "qrels": "", "out": ""}.items() if key not in written}
        show_leaderboard(options.resolve(config, written, {**needless, **flags}, str(recipe)), manner)
        return
    resolved: Any = options.resolve(config, written, flags, str(recipe))
    if verb == "search" and (resolved.interactive or resolved.question is not None):
        answer_questions(resolved, manner)
    else:
        perform(verb, resolved, manner)


def asks_for_lines_alone(written: Mapping[str, Any], flags: Mapping[str, Any]) -> bool:
    """Whether a leaderboard is asked for, and no evaluation before it."""
    group = written.get("showing")
    asked = "showing.leaderboard" in flags or (isinstance(group, dict) and group.get("leaderboard") is not None)
    return asked and not ("runs" in written or "runs" in flags)


def show_leaderboard(config: Any, manner: Manner) -> None:
    from seedcli import console
    from seedcli.evaluation import results_log
    from seedcli.stages.results import leaderboard

    found = leaderboard(config, console.Screen(manner.quiet))
    if manner.json:
        console.print_json(results_log.plain(found, config.showing.between))
    else:
        console.leaderboard(found, config.showing.between)


def answer_questions(config: Any, manner: Manner) -> None:
    """Answer a search's one question, or those that are asked at its prompt."""
    from seedcli import answers, console
    from seedcli.prompt import Prompt
    from seedcli.stages.asking import ANSWERS, open_asking

    depth = config.depth or ANSWERS
    with open_asking(config, console.Screen(manner.quiet, brief=True)) as asking:
        if config.interactive:
            Prompt(asking, depth, manner.json).converse(config.question, manner.quiet)
            return
        found = asking.answers(config.question, depth)
        if manner.json:
            console.print_json(answers.rows(found))
        else:
            answers.hits(found)


def perform(verb: str, config: Any, manner: Manner) -> None:
    from seedcli import console
    from seedcli.stages import stage
    from seedcli.stages.told import next_steps

    began, screen = time.time(), console.Screen(manner.quiet)
    manifest = stage.perform(verb, config, screen, manner.overwrite)
    if not first_process():
        return
    ran = manifest.started >= began
    screen.result(manifest, config.out, ran)
    if manner.json:
        console.print_json(summary(manifest, config.out, ran))
    elif verb == "evaluate":
        console.report(config.out)
        if config.showing.leaderboard is not None:
            show_leaderboard(config, manner)
    elif verb == "inspect":
        console.inspection(config.out)
    elif verb == "index":
        console.indexes(manifest.metrics, config.out)
    screen.next(next_steps(verb, config))


def summary(manifest: Any, folder: Path, ran: bool) -> dict[str, Any]:
    """A manifest for scripts: as it is written, with its folder, and whether this command made it."""
    return {**asdict(manifest), "folder": str(folder), "ran": ran}


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run, why, and what it would take; run nothing.")
    ] = False,
    assume: Annotated[
        str | None, typer.Option(metavar="DEVICES", help="--dry-run: what hours are told for, such as 8xA100@40%.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change an option; repeatable.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print every stage with all its options; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help=JSON)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help=QUIET)] = False,
) -> None:
    """Run the stages of a recipe in order; what is done stays, what was interrupted goes on.

    A stage is made anew when its options or inputs have changed; its old folder is kept as NAME.old-1.
    Ends with the table of the last evaluation.
    """
    from seedcli import console

    with mistakes():
        written, assignments = options.read_recipe(recipe), options.parse_assignments(set_ or [])
        from seedcli.stages import run as stages
        from seedcli.stages.told import after_recipe

        if assume is not None and not dry_run:
            raise ConfigError("--assume: is for --dry-run")
        unset = dict[str, str]()
        steps = stages.read_steps(written, out, assignments, str(recipe), unset if dry_run else None)
        if show:
            plans = {step.name: {"verb": step.verb, **options.plain(step.config)} for step in steps}
            console.print_plain(options.dump_yaml({"stages": plans}))
            return
        screen = console.Screen(quiet)
        picked = stages.chosen(steps, only, until)
        if dry_run:
            tell_plan(written, recipe, picked, steps, unset, assume, json, screen)
            return
        began = time.monotonic()
        results = [run_step(step, steps, screen) for step in picked]
        screen.ended(str(recipe), time.monotonic() - began)
        reports = [step.config.out for step in picked if step.verb == "evaluate"]
        if json:
            console.print_json(results)
        elif reports:
            console.report(reports[-1])
        screen.next(after_recipe([(step.verb, step.config) for step in picked]))


def tell_plan(
    written: Mapping[str, Any], recipe: Path, picked: Sequence["Step"], steps: Sequence["Step"],
    unset: Mapping[str, str], assume: str | None, json: bool, screen: "Screen",
) -> None:  # fmt: skip
    """What --dry-run prints; estimates for a recipe that says what it expects, or where --assume asks for them."""
    from seedcli import console
    from seedcli.stages.outlook import ASSUMED, devices, outlooks, plain, told_unset
    from seedcli.stages.run import verdicts
    from seedcli.stages.sizes import read_expected

    expected, assumed = read_expected(written, str(recipe)), devices(assume or ASSUMED)
    judged = list(verdicts(picked, screen))
    undone = [step for step, verdict in judged if verdict.state != "done"]
    found = list(outlooks(undone, steps, expected, screen)) if "expect" in written or assume else []
    if json:
        estimates = {outlook.stage: {"estimate": plain(outlook, assumed)} for outlook in found}
        rows = ({"stage": s.name, "verb": s.verb, **v._asdict(), **estimates.get(s.name, {})} for s, v in judged)
        console.print_json(list(rows))
        return
    console.verdicts([(step.name, step.verb, *verdict) for step, verdict in judged])
    console.unset(told_unset(unset, expected, recipe))
    if any(outlook.parts for outlook in found):
        console.outlooks(found, assumed)


def run_step(step: "Step", steps: Sequence["Step"], screen: "Screen") -> dict[str, Any]:
    """Run a stage of a recipe unless it is done; its summary."""
    from seedcli.stages.run import judge, make

    verdict, folder = judge(step, set(), screen), step.config.out
    name = "" if folder.name == step.name else f"{step.name}: "
    done = verdict.state == "done"
    place = f"[{steps.index(step) + 1}/{len(steps)}] {name}{step.verb}"
    screen.title(place, folder, verdict.reason, "dim" if done else "bold")
    if done:
        return {"stage": step.name, **summary(read_manifest(folder), folder, ran=False)}
    manifest = make(step, verdict, screen)
    screen.result(manifest, folder, ran=True)
    return {"stage": step.name, **summary(manifest, folder, ran=True)}


@app.command("doctor")
def doctor(
    warm: Annotated[bool, typer.Option("--warm", help="Compile ahead what the first evaluation would.")] = False,
    json: Annotated[bool, typer.Option("--json", help=JSON)] = False,
) -> None:
    """Tell whether this machine can do what seed does, and the command that mends what it can't.

    Exit code 1 when something that is needed is broken.
    """
    from seedcli import console
    from seedcli.stages.doctor import examine

    with mistakes():
        found = examine(warm, console.Screen())
        known = list(found) if json else console.checks(found)
        if json:
            console.print_json([check._asdict() for check in known])
    if any(check.state == "broken" for check in known):
        raise typer.Exit(1)


def parameter(option: options.Option) -> inspect.Parameter:
    """An option as typer takes it: text, to be cast and checked at one border together with recipes."""
    repeated = typing.get_origin(option.hint) is list
    kind = list[str] | None if repeated else str | None
    flag, default = option.flag, option.default
    needed = " [required]" if default is MISSING else ""
    if options.ARGUMENT in option.marks:
        return keyword(name(option), kind, typer.Argument(metavar=option.typed, help=escaped(option.doc + needed)))
    panel = inspect.cleandoc(option.group.__doc__ or "").splitlines()[0] if "." in option.key else "Options"
    common: dict[str, Any] = {"rich_help_panel": escaped(panel), "show_default": False}
    if option.hint is bool:
        note = f"[default: {flag[2:] if default else 'no-' + flag[2:]}]"
        hint = typer.Option(*option.short, f"{flag}/--no-{flag[2:]}", help=escaped(f"{option.doc} {note}"), **common)
        return keyword(name(option), bool | None, hint)
    note = needed
    if default not in (MISSING, None, []):
        note = f" [default: {' '.join(map(str, default)) if repeated else default}]"
    hint = typer.Option(
        *option.short, flag, help=escaped(option.doc + note), metavar=options.hint_name(option.hint), **common
    )
    return keyword(name(option), kind, hint)


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
        keyword("json", bool, typer.Option("--json", rich_help_panel=MANNER, help=JSON), False),
        keyword("quiet", bool, typer.Option("--quiet", "-q", rich_help_panel=MANNER, help=QUIET), False),
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
for _group in groups.values():
    app.add_typer(_group)
