"""Ending many sessions: each profile on threads of its own, and what was accepted is looked for until it is gone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from bsess.closing import outcomes
from bsess.closing.one import Asked, ask, conclude
from bsess.errors import BsessError
from bsess.providers.base import CloseAnswer, CloseState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

    from bsess.closing import Manner, Target
    from bsess.context import Context
    from bsess.model import Outcome
    from bsess.providers.base import RemoteSession

_Item = TypeVar("_Item")

# Between two looks, doubled each time.
LOOK_SECONDS, LOOK_MAX_SECONDS = 0.05, 2.0
# So many are asked to end at a time, for each thread; and once so many were accepted, they are looked for.
BATCH_OF_A_WORKER = 16


def close_all(
    context: Context, targets: Sequence[Target], manner: Callable[[Target], Manner], on_done: Callable[[Outcome], None]
) -> list[Outcome]:
    """End sessions; outcomes in the order of the targets, `on_done` as they come.

    A profile whose provider is slow or down keeps no other one's sessions waiting: each has up to `context.workers`
    threads.
    """
    context.expect(len(targets))
    # By profile: what one account lists says nothing of another's, though both be at one place.
    groups: dict[str, list[_Wanted]] = {}
    for index, target in enumerate(targets):
        groups.setdefault(target.profile.name, []).append(_Wanted(index, target, manner(target)))
    lanes = [_Lane(context, wanted) for wanted in groups.values()]
    done: dict[int, Outcome] = {}
    for index, outcome in _together(lanes) if len(lanes) > 1 else lanes[0].run() if lanes else ():
        done[index] = outcome
        on_done(outcome)
    return [done[index] for index in range(len(targets))]


@dataclass(frozen=True, slots=True)
class _Wanted:
    index: int
    target: Target
    manner: Manner


_Answered = tuple[_Wanted, "Outcome | Asked"]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A session that nobody has seen gone, and the time (monotonic) until which it is looked for."""

    index: int
    asked: Asked
    until: float


@dataclass(slots=True)
class _Lane:
    """The sessions of one profile."""

    context: Context
    wanted: list[_Wanted]
    stop: Event = field(default_factory=Event)
    _waiting: list[_Waiting] = field(default_factory=list)

    def run(self) -> Iterator[tuple[int, Outcome]]:
        """End them all, and yield each outcome as it comes."""
        if len(self.wanted) == 1:
            yield from self._taken([(self.wanted[0], self._asked(self.wanted[0]))])
            yield from self._seen_gone(None)
            return
        from concurrent.futures import ThreadPoolExecutor  # 6 ms, and one close needs none
        from queue import SimpleQueue

        size = self.context.workers * BATCH_OF_A_WORKER
        with ThreadPoolExecutor(min(self.context.workers, len(self.wanted)), thread_name_prefix="close") as pool:
            try:
                told: SimpleQueue[_Answered | BaseException] = SimpleQueue()
                for item in self.wanted[:size]:
                    pool.submit(self._ask, item, told)
                done = 0
                while done < len(self.wanted):
                    batch = _all_of(told)
                    for item in self.wanted[done + size : done + size + len(batch)]:
                        pool.submit(self._ask, item, told)
                    done += len(batch)
                    yield from self._taken(batch)
                    if len(self._waiting) >= size:
                        yield from self._look(pool)
                yield from self._seen_gone(pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _asked(self, wanted: _Wanted) -> Outcome | Asked:
        if self.stop.is_set() or self.context.seconds_left() <= 0:
            return outcomes.skipped(wanted.target)
        return ask(self.context, wanted.target, wanted.manner)

    def _ask(self, wanted: _Wanted, told: SimpleQueue[_Answered | BaseException]) -> None:
        try:
            told.put((wanted, self._asked(wanted)))
        except BaseException as error:  # noqa: BLE001  raised again by whoever reads the queue
            told.put(error)

    def _taken(self, batch: Sequence[_Answered]) -> Iterator[tuple[int, Outcome]]:
        """Yield what is settled, and keep what is to be looked for."""
        settled: list[tuple[_Wanted, Asked]] = []
        for wanted, asked in batch:
            if not isinstance(asked, Asked):
                yield wanted.index, asked
            elif asked.unseen and wanted.manner.wait is not None:
                self._waiting.append(_Waiting(wanted.index, asked, time.monotonic() + wanted.manner.wait))
            else:
                settled.append((wanted, asked))
        concluded = conclude(self.context, [(asked, asked.answer) for _, asked in settled])
        yield from ((wanted.index, outcome) for (wanted, _), outcome in zip(settled, concluded, strict=True))

    def _seen_gone(self, pool: ThreadPoolExecutor | None) -> Iterator[tuple[int, Outcome]]:
        pause = LOOK_SECONDS
        while self._waiting and not self.stop.is_set():
            yield from self._look(pool)
            if self._waiting:
                time.sleep(pause)
                pause = min(pause * 2, LOOK_MAX_SECONDS)

    def _look(self, pool: ThreadPoolExecutor | None) -> Iterator[tuple[int, Outcome]]:
        waiting, self._waiting = self._waiting, []
        settled: list[tuple[_Waiting, CloseAnswer | BsessError]] = []
        for item, found in self._found(waiting, pool):
            answer = self._answer(item, found)
            if answer is None:
                self._waiting.append(item)
            else:
                settled.append((item, answer))
        concluded = conclude(self.context, [(item.asked, answer) for item, answer in settled])
        yield from ((item.index, outcome) for (item, _), outcome in zip(settled, concluded, strict=True))

    def _found(
        self, waiting: list[_Waiting], pool: ThreadPoolExecutor | None
    ) -> Iterator[tuple[_Waiting, RemoteSession | BsessError | None]]:
        """Yield what the provider says of each: of several one listing, and of those that are not in it each alone."""
        # Of several one listing says most; and a listing alone can tell against an answer that there is none.
        if len(waiting) > 1 or any(_is_doubted(item) for item in waiting):
            try:
                listing = self.context.provider(waiting[0].asked.target.profile).list()
            except BsessError as error:
                yield from ((item, error) for item in waiting)
                return
            listed = {name: remote for remote in listing.sessions for name in (remote.provider_id, remote.id)}
            yield from ((item, listed[_id(item)]) for item in waiting if _id(item) in listed)
            waiting = [item for item in waiting if _id(item) not in listed]
            if listing.complete:
                yield from ((item, None) for item in waiting)
                return
        yield from zip(waiting, (map if pool is None else pool.map)(self._get, waiting), strict=True)

    def _get(self, item: _Waiting) -> RemoteSession | BsessError | None:
        try:
            return self.context.provider(item.asked.target.profile).get(_id(item))
        except BsessError as error:
            return error

    def _answer(self, item: _Waiting, found: RemoteSession | BsessError | None) -> CloseAnswer | BsessError | None:
        """Return what a look settles; None where it is to be looked again."""
        answer = item.asked.answer
        if isinstance(answer, BsessError):
            return answer
        if not isinstance(found, BsessError):
            if found is None or not found.live:
                if _is_doubted(item):
                    return answer
                return replace(answer, state=CloseState.ENDED, provider_status=found.status if found else None)
            answer = replace(answer, provider_status=found.status)
        if self.context.seconds_left() <= 0:
            # The deadline cut the wait short: accepted is all that can be said.
            return replace(answer, state=CloseState.STILL_LIVE) if _is_doubted(item) else answer
        if isinstance(found, BsessError):
            return found
        return replace(answer, state=CloseState.STILL_LIVE) if time.monotonic() >= item.until else None


def _is_doubted(item: _Waiting) -> bool:
    # Its provider says that there is none, and listed it.
    return isinstance(item.asked.answer, CloseAnswer) and item.asked.answer.state is CloseState.ABSENT


def _all_of(told: SimpleQueue[_Answered | BaseException]) -> list[_Answered]:
    """Wait for an item, and return it with all that are there already: they are written together."""
    batch = [_result(told.get())]
    while not told.empty():
        batch.append(_result(told.get()))
    return batch


def _result(item: _Item | BaseException) -> _Item:
    if isinstance(item, BaseException):
        raise item
    return item


def _id(item: _Waiting) -> str:
    return item.asked.target.id


def _together(lanes: Sequence[_Lane]) -> Iterator[tuple[int, Outcome]]:
    """Run several lanes at a time, and yield what they yield."""
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

    told: SimpleQueue[tuple[int, Outcome] | BaseException | None] = SimpleQueue()
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="provider") as pool:
        try:
            for lane in lanes:
                pool.submit(_run, lane, told)
            running = len(lanes)
            while running:
                item = told.get()
                if item is None:
                    running -= 1
                else:
                    yield _result(item)
        finally:
            for lane in lanes:
                lane.stop.set()


def _run(lane: _Lane, told: SimpleQueue[tuple[int, Outcome] | BaseException | None]) -> None:
    try:
        for item in lane.run():
            told.put(item)
        told.put(None)
    except BaseException as error:  # noqa: BLE001  raised again by whoever reads the queue
        told.put(error)
