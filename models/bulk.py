"""Score a file of chats of any size: in order, on all cores, in memory that does not grow with the file.

One process reads the file in chunks of whole lines, deals them out to worker processes, and writes what comes back, in
order. How a file is cut into chunks depends on its content alone. So a run that was killed is resumed by reading the
chunks that are done once more without scoring them, and gives the same bytes as one that was not.

A file holds either JSON Lines, a chat in each line, or the You are Bot format, `{dialog_id: [{"message", "text",
"participant_index"}, …], …}`; the beginning tells which. Either may be packed with gzip.
"""

import codecs
import gc
import gzip
import json
import multiprocessing
import os
import re
import signal
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BufferedReader
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, Field
from pydantic_core import to_json

from .chat import MAX_MESSAGES, Chat, Identifier, Message, Prediction, SaidText
from .classifier import Classifier
from .ngrams import Ngrams
from .validation import BYTE_ORDER_MARK, InvalidChatError, validate_json

# Bytes that a worker gets at a time, and the rest of the last line. With twice as many, the process that reads grew by
# 14 MB in a million chats: malloc kept pieces of various sizes.
CHUNK = 1 << 17
LONGEST_LINE = 1 << 24  # bytes; a longer line is no chat
BATCH = 256  # chats that are scored at a time: what is in a chunk, for the most part
CACHED_WORDS = 1 << 16  # of a worker, twice as many as in the service, where each thread has a cache
AHEAD = 3  # chunks for each worker that are being scored or wait
DECIMALS = 6  # of a probability; the last ones of a float depend on the chats that are scored with it
_NAME = re.compile(r'\s*("(?:[^"\\]|\\.)*")\s*:\s*')  # of a member of a JSON object
_AFTER = re.compile(r"\s*([,}])")  # a member
ESCAPE = "surrogateescape"  # bytes that are no UTF-8 pass through, and are rejected where the chat is read

Kind = Literal["line", "dialog"]
Stream = IO[bytes] | gzip.GzipFile


class BulkError(Exception):
    """A file cannot be scored; the message says why in one line."""


class _DialogMessage(BaseModel):
    message: Identifier
    text: SaidText
    participant_index: int


class _Dialog(BaseModel):
    """A dialog of the You are Bot format, with its key."""

    chat_id: str
    messages: list[_DialogMessage] = Field(min_length=1, max_length=MAX_MESSAGES)

    def chat(self) -> Chat:
        return Chat.model_construct(
            chat_id=self.chat_id,
            messages=[
                Message.model_construct(message_id=one.message, text=one.text, participant_id=one.participant_index)
                for one in self.messages
            ],
        )


def score_lines(
    classifier: Classifier, lines: Sequence[bytes], kind: Kind = "line", *, finished: bool = False
) -> list[bytes | InvalidChatError]:
    """Score chats in JSON; returns a prediction in JSON for each line, or why it is no chat.

    All chats are `finished`, or those that say so.
    """
    found: list[Chat | InvalidChatError] = []
    for line in lines:
        try:
            if kind == "dialog":
                found.append(validate_json(_Dialog, line, root="dialog").chat())
            else:
                found.append(validate_json(Chat, line, root="line"))
        except InvalidChatError as error:
            found.append(error)
    chats = [chat for chat in found if isinstance(chat, Chat)]
    if finished:
        for chat in chats:
            chat.finished = True
    scores = (
        to_json(prediction)
        for start in range(0, len(chats), BATCH)
        for prediction in _predict(classifier, chats[start : start + BATCH])
    )
    return [next(scores) if isinstance(chat, Chat) else chat for chat in found]


def _predict(classifier: Classifier, chats: Sequence[Chat]) -> list[Prediction]:
    assessment = classifier.assess(chats)
    rounded = replace(assessment, probabilities=assessment.probabilities.round(DECIMALS))
    return classifier.to_predictions(chats, rounded)


@dataclass(frozen=True)
class Scored:
    """What became of a chunk: lines of JSON, and how many chats."""

    scores: bytes
    rejected: bytes
    chats: int


@dataclass(frozen=True)
class Settings:
    """How chats are scored: with which model, for which share of bots, and whether all are complete recordings.

    `expected_bot_share` is that of `Classifier`, `finished` that of `Chat`.
    """

    folder: Path
    expected_bot_share: float | None
    finished: bool


def load_classifier(folder: Path, expected_bot_share: float | None = None) -> Classifier:
    """Load a model into a process that does nothing else than score; raises `ModelError`."""
    classifier = Classifier.load(folder, expected_bot_share)
    classifier.ngrams = Ngrams(classifier.ngrams.weights, CACHED_WORDS)
    gc.freeze()  # the garbage collector went through the model and all chats of a chunk: a fifth of the CPU time
    gc.set_threshold(100_000)
    return classifier


_CLASSIFIER: list[Classifier] = []  # of this worker process


def _start_worker(settings: Settings) -> None:
    """Load the model once for each worker, and let the worker end with its parent, even if that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it as well
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _CLASSIFIER.append(load_classifier(settings.folder, settings.expected_bot_share))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _score_chunk(chunk: bytes, first: int, kind: Kind, finished: bool) -> Scored:
    """Score the lines of a chunk; the number of the first is `first`. Empty lines are left out."""
    numbers, lines, too_long = [], [], []
    for number, line in enumerate(chunk.split(b"\n"), first):
        if len(line) > LONGEST_LINE:
            too_long.append((number, f"longer than {LONGEST_LINE} bytes"))
        elif line.strip():
            numbers.append(number)
            lines.append(line)
    scored = score_lines(_CLASSIFIER[0], lines, kind, finished=finished)
    scores = [line for line in scored if isinstance(line, bytes)]
    reasons = [(number, str(line)) for number, line in zip(numbers, scored, strict=True) if not isinstance(line, bytes)]
    rejected = [json.dumps({kind: number, "error": reason}) for number, reason in sorted(reasons + too_long)]
    return Scored(
        scores=b"".join(line + b"\n" for line in scores),
        rejected="".join(line + "\n" for line in rejected).encode(),
        chats=len(scores),
    )


@dataclass(frozen=True)
class State:
    """How far a run has come: what it has read, and how much of its output belongs to that."""

    chunks: int = 0
    lines: int = 0
    chats: int = 0
    checksum: int = 0  # CRC 32 of what was read
    rejected_lines: int = 0
    scores: int = 0  # bytes
    rejected: int = 0  # bytes


def open_chats(stream: BufferedReader) -> tuple[Iterator[bytes], Kind]:
    """Return the chunks of a file or pipe, unpacked, and what a line of them holds."""
    packed = stream.peek(2)[:2] == b"\x1f\x8b"
    unpacked = gzip.GzipFile(fileobj=stream) if packed else stream
    beginning = unpacked.peek(1024)[:1024].removeprefix(BYTE_ORDER_MARK)
    if re.match(rb'\s*\{\s*"(?!messages")[^"]*"\s*:\s*\[', beginning):
        return _chunks_of_dialogs(unpacked), "dialog"
    return _chunks_of_lines(unpacked), "line"


def _chunks_of_lines(stream: Stream) -> Iterator[bytes]:
    """Cut a stream at the first line end after `CHUNK` bytes. Of a line that is too long, the rest is left out."""
    while chunk := stream.read(CHUNK):
        if not chunk.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
            chunk += rest
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(CHUNK)
            if rest and not chunk.endswith(b"\n"):
                chunk += b"\n"
        yield chunk


def _chunks_of_dialogs(stream: Stream) -> Iterator[bytes]:
    """Turn the dialogs of one JSON object into lines, `{"chat_id": …, "messages": …}`, and these into chunks."""
    lines: list[bytes] = []
    size = 0
    for name, messages in _members(stream):
        # a line end can only be white space between values, where JSON is valid
        lines.append(f'{{"chat_id":{name},"messages":{messages}}}'.replace("\n", " ").encode(errors=ESCAPE) + b"\n")
        size += len(lines[-1])
        if size >= CHUNK:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def _members(stream: Stream) -> Iterator[tuple[str, str]]:
    """Return the names and values of a JSON object, each as JSON; raises `BulkError` where it is not valid."""
    utf_8 = codecs.getincrementaldecoder("utf-8")(ESCAPE)
    decode = json.JSONDecoder().raw_decode
    text = ""
    while "{" not in text:  # there is one, or `open_chats` would have taken the file for lines
        text += utf_8.decode(stream.read(CHUNK))
    at, number = text.index("{") + 1, 1
    while True:
        name, end = _NAME.match(text, at), 0
        with suppress(ValueError, RecursionError):
            end = decode(text, name.end())[1] if name else 0
        after = _AFTER.match(text, end) if end else None
        if name and after:
            yield name[1], text[name.end() : end]
            at, number = after.end(), number + 1
            if after[1] == "}":
                return
        else:  # the rest of it is still to be read
            more = stream.read(CHUNK)
            if not more or len(text) - at > LONGEST_LINE:
                raise BulkError(f"dialog {number}: not valid JSON")
            text, at = text[at:] + utf_8.decode(more), 0


def score_stream(
    stream: BufferedReader, settings: Settings, processes: int, state: State
) -> Iterator[tuple[State, Scored]]:
    """Score a file or pipe with so many worker processes; returns what became of each chunk, in order.

    With each comes the state after it. `state` is continued: its chunks are read, but not scored again. Raises
    `BulkError` for a file that is damaged or differs from what the state was made of, and if a worker died.
    """
    try:
        chunks, kind = open_chats(stream)
        checksum = 0
        for chunk in islice(chunks, state.chunks):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != state.checksum:
            raise BulkError("this is not the input of the run that was interrupted")
        for chunk, scored in _score_chunks(chunks, kind, state.lines + 1, settings, processes):
            state = State(
                chunks=state.chunks + 1,
                lines=state.lines + chunk.count(b"\n"),
                chats=state.chats + scored.chats,
                checksum=zlib.crc32(chunk, state.checksum),
                rejected_lines=state.rejected_lines + scored.rejected.count(b"\n"),
                scores=state.scores + len(scored.scores),
                rejected=state.rejected + len(scored.rejected),
            )
            yield state, scored
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BulkError(f"damaged: {error}") from None
    except BrokenProcessPool:
        raise BulkError("a worker process died, perhaps for lack of memory") from None


def _score_chunks(
    chunks: Iterable[bytes], kind: Kind, first: int, settings: Settings, processes: int
) -> Iterator[tuple[bytes, Scored]]:
    """Return each chunk with what became of it, in order; the number of the first line is `first`."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # the workers use all cores
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads
    pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(settings,))
    waiting: deque[tuple[bytes, Future[Scored]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_score_chunk, chunk, first, kind, settings.finished)))
            first += chunk.count(b"\n")
            if len(waiting) > AHEAD * processes:
                done, scored = waiting.popleft()
                yield done, scored.result()
        while waiting:
            done, scored = waiting.popleft()
            yield done, scored.result()
    finally:
        pool.shutdown(cancel_futures=True)
