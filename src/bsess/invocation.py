"""One run of the command line: the common flags, the context they make, and how its result is told."""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bsess import config, durations, inventory
from bsess.context import Context
from bsess.errors import BsessError, FailedError, UsageError
from bsess.output import (
    OF_ONE,
    Format,
    Renderer,
    grid,
    is_terminal,
    only_one,
    parse_format,
    problem_lines,
    show_tables,
    tells,
)
from bsess.output.text import clean
from bsess.verdict import with_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TextIO

    from bsess.config import Config
    from bsess.model import Decision, Outcome, Result, Session
    from bsess.output.progress import Progress

DEADLINE_SECONDS = 300.0
SWEEP_DEADLINE_SECONDS = 900.0
# So many new objects make the collector look: rarely enough that a short command never sees it.
COLLECTED_FROM = 20_000
# More than this many at once is confirmed by typing the number.
CONFIRM_PLAINLY_MAX = 20


@dataclass(slots=True)
class Flags:
    """The flags that every command shares, as they were typed."""

    output: str | None = None
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    timeout: str | None = None
    deadline: str | None = None
    workers: int | None = None
    show_secrets: bool = False
    yes: bool = False


class ResultUntold(BsessError):  # noqa: N818  it is the result that is untold
    """Standard output took no result: closed, full or broken.

    `reader_gone` is the command's exit code where whoever read it has had enough; that is no failure.
    """

    default_code = "stdout"
    reader_gone: int | None = None

    @classmethod
    def by(cls, error: Exception) -> ResultUntold:
        """Return the error for what writing to standard output raised."""
        return cls(f"standard output takes nothing: {getattr(error, 'strerror', None) or 'it is closed'}")


@dataclass(frozen=True, slots=True)
class Told:
    """What to do once standard output has taken a result, and what where it does not."""

    delivered: Callable[[Context, Result], None]
    undelivered: Callable[[Context, Result], None]


@dataclass(slots=True)
class Invocation:
    """What one call of the program is about; the error boundary reads `command` from it.

    `annotates`: GitHub Actions reads its output, and obeys commands in it.
    """

    environment: Mapping[str, str]
    command: str = ""
    flags: Flags = field(default_factory=Flags)
    annotates: bool = False

    def run(
        self,
        command: str,
        call: Callable[[Context], Result],
        *,
        secrets_asked_for: bool = False,
        deadline: float | None = DEADLINE_SECONDS,
        told: Told | None = None,
        report: str | None = None,
    ) -> int:
        """Call a command and tell its result; `told` is what follows from whether that could be done.

        `report` is a file for the result as the document of `-o json`, besides what is told.
        """
        self.command = command
        settings = config.load(self.environment, may_be_missing=command.startswith("config "))
        renderer = self._renderer(settings, secrets_asked_for=secrets_asked_for)
        self.annotates = renderer.annotates
        progress = self._progress()

        def emit(item: Session | Outcome) -> None:
            renderer.emit(item)
            if progress is not None:
                progress.step()

        context = self.context(settings, emit=emit, deadline=deadline)
        context.stream = renderer.stream
        if progress is not None:
            context.expect = progress.expect
        if self.annotates:
            context.warn = self._annotate
        try:
            try:
                result = call(context)
            finally:
                if progress is not None:
                    progress.end()
            if report is not None:
                # First: it is to be there where standard output takes nothing.
                result = reported(report, result)
            _render(renderer, context, result, told)
        finally:
            context.close()
        if not self.annotates:
            self.say_problems(problem_lines(result.errors))
        # Last: a log's end then tells what came of it.
        self.say(result.notes)
        self.say(_remarks(result, renderer))
        return result.exit_code

    def context(
        self,
        settings: Config,
        *,
        emit: Callable[[Session | Outcome], None] | None = None,
        deadline: float | None = DEADLINE_SECONDS,
    ) -> Context:
        """Return the surroundings of a command under these flags."""
        # What is imported by now stays. httpx leaves 6 kB of cycles for each request.
        gc.freeze()
        gc.set_threshold(COLLECTED_FROM)
        gc.enable()
        flags = self.flags
        if flags.deadline is not None:
            deadline = durations.parse(flags.deadline, name="--deadline")
        context = Context(
            config=settings,
            environment=self.environment,
            command=self.command,
            confirm=self._confirm,
            log=(lambda line: self.say([line])) if flags.verbose else None,
            alarm=lambda line: self.say_problems([f"bsess: {line}"]),
            note=lambda line: self.say([line]),
            warn=lambda line: self.say([f"warning: {line}"]),
            timeout=30.0 if flags.timeout is None else durations.parse(flags.timeout, name="--timeout"),
            until=None if deadline is None else time.monotonic() + deadline,
            workers=16 if flags.workers is None else flags.workers,
        )
        if emit is not None:
            context.emit = emit
        return context

    def output_format(self) -> Format:
        """Return the format to answer in. Raises UsageError.

        What BSESS_OUTPUT asks for is for the commands that have it.
        """
        terminal = is_terminal(sys.stdout)
        asked = self.flags.output
        chosen = parse_format(
            (self.environment.get("BSESS_OUTPUT") or None) if asked is None else asked, terminal=terminal
        )
        if tells(chosen, self.command):
            return chosen
        if asked is None:
            return parse_format(None, terminal=terminal)
        raise UsageError(f"`bsess {self.command}` has no -o {chosen}", hint="-o table, tsv, json or jsonl")

    def check_can_tell(self, count: int) -> None:
        """Refuse, before any is made, a format that cannot tell of so many sessions. Raises UsageError, FailedError."""
        chosen = self.output_format()
        if count > 1 and chosen in OF_ONE:
            raise only_one(chosen, count)
        if chosen is Format.GITHUB:
            from bsess.output import github

            github.check(self.environment)

    def tell(self, text: str) -> int:
        """Write a text that is the command's whole result."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, AttributeError) as error:
            untold = ResultUntold.by(error)
            untold.reader_gone = 0 if isinstance(error, BrokenPipeError) else None
            raise untold from error
        return 0

    def fail(self, error: BsessError) -> None:
        """Print one error to standard error."""
        self.say_problems(problem_lines([inventory.problem(error)]))

    def say(self, lines: Sequence[str]) -> None:
        """Print lines for people to standard error, unless they want it quiet."""
        if not self.flags.quiet:
            self._print(lines)

    def say_problems(self, lines: Sequence[str]) -> None:
        """Print errors to standard error."""
        self._print(lines)

    def watch(self, look: Callable[[Context], Result], *, every: float) -> int:
        """Show a listing again and again on a terminal, until it is interrupted."""
        self.command = "list"
        if not is_terminal(sys.stdout):
            raise UsageError("--watch needs a terminal", hint="leave it out in a script")
        settings = config.load(self.environment)
        context = self.context(settings, deadline=None)
        from bsess.output import rich_table, wants_colour
        from bsess.output.records import View

        def frame() -> tuple[Sequence[grid.Grid], str]:
            result = look(context)
            count = len(result.sessions or ())
            line = f"{count} sessions at {time.strftime('%H:%M:%S')}, Ctrl-C ends"
            notes = [*result.notes, *(item.message for item in result.errors), line]
            return grid.grids(result, View(now=context.now())), "\n".join(notes)

        try:
            rich_table.watch(
                frame, sys.stdout, colour=wants_colour(sys.stdout, self.environment), pause=lambda: time.sleep(every)
            )
        finally:
            context.close()
        return 0

    def _progress(self) -> Progress | None:
        shown = is_terminal(sys.stderr) and not self.flags.quiet and not self.flags.verbose
        if not shown or self.environment.get("CI") or self.environment.get("TERM") == "dumb":
            return None
        from bsess.output.progress import Progress

        return Progress(sys.stderr, time.monotonic)

    def _renderer(self, settings: Config, *, secrets_asked_for: bool) -> Renderer:
        chosen = self.output_format()
        return Renderer(
            chosen,
            stream=sys.stdout,
            environment=self.environment,
            default_profile=settings.default.value,
            show_secrets=self.flags.show_secrets or (secrets_asked_for and chosen in ("url", "env", "json", "github")),
            now=time.time,
        )

    def _confirm(self, decisions: Sequence[Decision]) -> bool:
        if self.flags.yes:
            return True
        ends = [decision for decision in decisions if decision.end]
        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            raise UsageError(
                f"{_count(ends)} would end, and nobody can confirm it",
                code="confirmation",
                hint="--yes confirms it, --dry-run only shows it",
            )
        show_tables([grid.decisions(ends)], sys.stderr, self.environment)
        many = len(ends) > CONFIRM_PLAINLY_MAX
        question = f"Type {len(ends)} to end them: " if many else f"End {_count(ends)}? [y/N] "
        sys.stderr.write(question)
        sys.stderr.flush()
        answer = sys.stdin.readline().strip()
        return answer == str(len(ends)) if many else answer.lower() in ("y", "yes")

    def _annotate(self, warning: str) -> None:
        from bsess.output import github

        write_lines(sys.stdout, [github.annotation("warning", self.command, warning)])

    def _print(self, lines: Sequence[str]) -> None:
        if self.annotates:
            from bsess.output import github

            lines = [github.inert(line) for line in lines]
        write_lines(sys.stderr, [clean(line) for line in lines])


def read_ids(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the typed ids, and those read from standard input where `-` was typed. Raises FailedError."""
    typed = [name for name in names if name != "-"]
    if len(typed) == len(names):
        return typed, []
    return typed, lines_of(read_text("ids"))


def lines_of(text: str) -> list[str]:
    """Return the lines of a text that hold something."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_file(path: str, *, name: str, hint: str = "one id a line") -> str:
    """Return what a file holds, `-` being standard input. Raises UsageError, which calls it `name`, FailedError."""
    if path == "-":
        return read_text(name)
    try:
        with open(path, encoding="utf-8-sig") as opened:  # noqa: PTH123  a name as the user gave it
            return opened.read()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{name}: {why}", hint=hint) from error


def read_text(what: str) -> str:
    """Return what standard input holds. Raises FailedError where it cannot be read, UsageError where it is no text."""
    if is_terminal(sys.stdin):
        write_lines(sys.stderr, [f"reading {what} from the terminal; Ctrl-D ends them"])
    try:
        data = sys.stdin.buffer.read()
    except (OSError, ValueError, AttributeError) as error:
        raise FailedError(f"standard input cannot be read: {error}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"standard input is not UTF-8 (byte {error.start}): this is no {what}", code="id_invalid"
        ) from error


def reported(path: str, result: Result) -> Result:
    """Write a result to a file; one that takes nothing is one more error of it, for what was done was done."""
    import json

    from bsess import whole
    from bsess.output.records import View, document

    try:
        with whole.writing(path) as file:
            file.write(json.dumps(document(result, View(now=time.time())), indent=2).encode() + b"\n")
    except FailedError as error:
        return with_failure(result, error)
    return result


def _render(renderer: Renderer, context: Context, result: Result, told: Told | None) -> None:
    try:
        renderer.render(result)
    except (OSError, AttributeError) as error:
        raise _untold(context, result, error, told) from error
    except BsessError as error:
        _take_back(context, result, error, told)
        raise
    if told is not None:
        told.delivered(context, result)


def _untold(context: Context, result: Result, error: Exception, told: Told | None) -> ResultUntold:
    untold = ResultUntold.by(error)
    if told is not None:
        _take_back(context, result, untold, told)
    elif isinstance(error, BrokenPipeError):
        untold.reader_gone = result.exit_code
    return untold


def _take_back(context: Context, result: Result, error: BsessError, told: Told | None) -> None:
    if told is not None:
        told.undelivered(context, result)
        error.hint = "what was made is closed again, for nobody would know of it"


def _remarks(result: Result, renderer: Renderer) -> list[str]:
    """Return what a person at a terminal, or before a log, would wonder about."""
    if renderer.annotates:
        from bsess.output import github

        return github.remarks(result)
    if not renderer.shows_tables or result.sessions is None:
        return []
    if not result.sessions:
        return ["no sessions"]
    return ["its connect URL: bsess list -o url --show-secrets"] if result.command == "create" else []


def write_lines(stream: TextIO | None, lines: Sequence[str]) -> None:
    """Write lines to a stream that may be closed: what cannot be told must not change what is done."""
    try:
        for line in lines:
            if stream is not None:
                stream.write(line + "\n")
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        pass


def _count(ends: Sequence[object]) -> str:
    return "one session" if len(ends) == 1 else f"{len(ends)} sessions"


def environment() -> dict[str, str]:
    """Return this process's environment; an undecodable value keeps its bytes."""
    return dict(os.environ)
