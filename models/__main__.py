"""The command `bot-or-human`: score a file of chats of any size.

Exit codes: 0 success, 1 unusable input, model or output (one line says why), 2 invalid arguments, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader
from pathlib import Path
from time import monotonic
from typing import cast

from .bulk import BulkError, Settings, State, score_stream
from .score_files import NothingToResumeError, ScoreFiles, Sink, Streams
from .validation import share_argument
from .weights import SHIPPED, ModelError, read_artifact


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _score(options)
    except NothingToResumeError:
        print(f"bot-or-human: {options.out} is complete", file=sys.stderr)
    except (BulkError, ModelError) as error:
        print(f"bot-or-human: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the scores has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"bot-or-human: {error.filename or options.out}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbot-or-human: interrupted; --resume continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bot-or-human", description="Tell bots from people in chats.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True)
    score = commands.add_parser(
        "score",
        help="score a file of chats",
        description="Score a file of chats of any size: each participant's probability of being a bot.",
    )
    score.add_argument(
        "chats",
        metavar="CHATS",
        help="JSON Lines, a chat in each line as in a request to /predict, or the You are Bot format; either may be"
        " packed with gzip; - reads standard input",
    )
    score.add_argument(
        "--out", metavar="SCORES", required=True, help="JSON Lines, a prediction for each chat, in order; - prints them"
    )
    score.add_argument(
        "--rejected",
        metavar="FILE",
        type=Path,
        help="JSON Lines, the number of each line that is no chat, and why (default: SCORES.rejected)",
    )
    score.add_argument("--model", metavar="FOLDER", type=Path, default=SHIPPED, help="a model folder")
    score.add_argument(
        "--expected-bot-share",
        metavar="SHARE",
        type=share_argument,
        help="share of bots among the participants, between 0 and 1 (default: that of the game)",
    )
    score.add_argument(
        "--finished",
        action="store_true",
        help="all chats are complete recordings of the game, not only those with the field finished",
    )
    score.add_argument(
        "--processes", metavar="N", type=_positive, default=_cores(), help="worker processes (default: all cores)"
    )
    score.add_argument("--resume", action="store_true", help="continue a run that was interrupted or killed")
    score.add_argument("--quiet", action="store_true", help="no progress and no summary")
    return parser


def _version() -> str:
    try:
        return version("bot-or-human")
    except PackageNotFoundError:  # run from its source
        return "unknown"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return number


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _score(options: argparse.Namespace) -> None:
    _, version = read_artifact(options.model)  # in this process, so that an error is one line
    settings = Settings(options.model, options.expected_bot_share, options.finished)
    with ExitStack() as files:
        if options.chats == "-":
            stream, size = cast("BufferedReader", sys.stdin.buffer), 0
        else:
            stream = files.enter_context(Path(options.chats).open("rb"))
            size = os.fstat(stream.fileno()).st_size
        sink = _open_sink(options, version, files)
        progress = _Progress(stream, size, sink.state.chats, is_shown=not options.quiet and sys.stderr.isatty())
        begin = monotonic()
        state = sink.state
        for state, scored in score_stream(stream, settings, options.processes, sink.state):
            sink.write(state, scored)
            progress.show(state)
        progress.end()
        sink.finish()
    if state.rejected_lines and not state.chats:
        raise BulkError(f"{options.chats}: no line is a chat; JSON Lines are needed, with a chat on each line")
    if not options.quiet:
        seconds = monotonic() - begin
        rejected = f"; {state.rejected_lines:,} lines were rejected" if state.rejected_lines else ""
        print(f"{state.chats:,} chats scored in {seconds:,.0f} s{rejected}", file=sys.stderr)


def _open_sink(options: argparse.Namespace, model_version: str, files: ExitStack) -> Sink:
    """Open what the scores are written to; raises `BulkError`, `NothingToResumeError` and OSError."""
    out = Path(options.out)
    if options.out != "-" and (out.is_file() or not out.exists()):
        rejected = options.rejected or out.with_name(out.name + ".rejected")
        if options.chats != "-" and any(file.exists() and file.samefile(options.chats) for file in (out, rejected)):
            raise BulkError(f"{options.chats}: would be overwritten")
        settings = {
            "model": model_version,
            "expected bot share": options.expected_bot_share or "of the game",
            "finished": options.finished,
        }
        return ScoreFiles(out, rejected, settings, resume=options.resume)
    if options.resume:
        raise BulkError("--resume needs a file as --out")
    return Streams(
        scores=sys.stdout.buffer if options.out == "-" else files.enter_context(out.open("wb")),
        rejected=files.enter_context(options.rejected.open("wb")) if options.rejected else sys.stderr.buffer,
    )


class _Progress:
    """A line on the terminal, once a second: chats, chats per second, and how much of a file is read."""

    def __init__(self, stream: BufferedReader, size: int, chats: int, *, is_shown: bool) -> None:
        self._stream, self._size, self._first = stream, size, chats
        self._is_shown = is_shown
        self._begin = self._shown = monotonic()

    def show(self, state: State) -> None:
        """Write the line anew, if a second has passed."""
        now = monotonic()
        if not self._is_shown or now - self._shown < 1:
            return
        self._shown = now
        line = f"{state.chats:,} chats, {(state.chats - self._first) / (now - self._begin):,.0f}/s"
        if self._size:
            share = min(self._stream.tell() / self._size, 1)  # a little ahead of what is scored
            filled = round(30 * share)
            line = f"[{'#' * filled}{'.' * (30 - filled)}] {share:4.0%}  {line}"
        print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
