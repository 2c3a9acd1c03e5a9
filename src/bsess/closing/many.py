"""Ending many sessions: each profile on threads of its own, and what was accepted is looked for until it is gone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from bsess.closing import outcomes
from bsess.closing.one import Accepted, ask, conclude
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


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A session that was accepted, and the time (monotonic) until which it is looked for."""

    index: int
    accepted: Accepted
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
            yield from self._taken(self.wanted[0], self._asked(self.wanted[0]))
            yield from self._seen_gone(None)
            return
        from concurrent.futures import ThreadPoolExecutor  # 6 ms, and one close needs none
        from queue import SimpleQueue

        size = self.context.workers * BATCH_OF_A_WORKER
        with ThreadPoolExecutor(min(self.context.workers, len(self.wanted)), thread_name_prefix="close") as pool:
            try:
                told: SimpleQueue[tuple[_Wanted, Outcome | Accepted] | BaseException] = SimpleQueue()
                for item in self.wanted[:size]:
                    pool.submit(self._ask, item, told)
                for number in range(len(self.wanted)):
                    wanted, asked = _result(told.get())
                    for item in self.wanted[number + size : number + size + 1]:
                        pool.submit(self._ask, item, told)
                    yield from self._taken(wanted, asked)
                    if len(self._waiting) >= size:
                        yield from self._look(pool)
                yield from self._seen_gone(pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _asked(self, wanted: _Wanted) -> Outcome | Accepted:
        if self.stop.is_set() or self.context.seconds_left() <= 0:
            return outcomes.skipped(wanted.target)
        return ask(self.context, wanted.target, wanted.manner)

    def _ask(self, wanted: _Wanted, told: SimpleQueue[tuple[_Wanted, Outcome | Accepted] | BaseException]) -> None:
        try:
            told.put((wanted, self._asked(wanted)))
        except BaseException as error:  # noqa: BLE001  raised again by whoever reads the queue
            told.put(error)

    def _taken(self, wanted: _Wanted, asked: Outcome | Accepted) -> Iterator[tuple[int, Outcome]]:
        if not isinstance(asked, Accepted):
            yield wanted.index, asked
        elif wanted.manner.wait is None:
            yield wanted.index, conclude(self.context, asked, asked.answer)
        else:
            self._waiting.append(_Waiting(wanted.index, asked, time.monotonic() + wanted.manner.wait))

    def _seen_gone(self, pool: ThreadPoolExecutor | None) -> Iterator[tuple[int, Outcome]]:
        pause = LOOK_SECONDS
        while self._waiting and not self.stop.is_set():
            yield from self._look(pool)
            if self._waiting:
                time.sleep(pause)
                pause = min(pause * 2, LOOK_MAX_SECONDS)

    def _look(self, pool: ThreadPoolExecutor | None) -> Iterator[tuple[int, Outcome]]:
        waiting, self._waiting = self._waiting, []
        for item, found in self._found(waiting, pool):
            answer = self._answer(item, found)
            if answer is None:
                self._waiting.append(item)
            else:
                yield item.index, conclude(self.context, item.accepted, answer)

    def _found(
        self, waiting: list[_Waiting], pool: ThreadPoolExecutor | None
    ) -> Iterator[tuple[_Waiting, RemoteSession | BsessError | None]]:
        """Yield what the provider says of each: of several one listing, and of those that are not in it each alone."""
        # Of several one listing says most; and a listing alone can tell against an answer that there is none.
        if len(waiting) > 1 or any(_is_doubted(item) for item in waiting):
            try:
                listing = self.context.provider(waiting[0].accepted.target.profile).list()
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
            return self.context.provider(item.accepted.target.profile).get(_id(item))
        except BsessError as error:
            return error

    def _answer(self, item: _Waiting, found: RemoteSession | BsessError | None) -> CloseAnswer | BsessError | None:
        """Return what a look settles; None where it is to be looked again."""
        accepted = item.accepted.answer
        if not isinstance(found, BsessError):
            if found is None or not found.live:
                if _is_doubted(item):
                    return accepted
                return replace(accepted, state=CloseState.ENDED, provider_status=found.status if found else None)
            accepted = replace(accepted, provider_status=found.status)
        if self.context.seconds_left() <= 0:
            # The deadline cut the wait short: accepted is all that can be said.
            return replace(accepted, state=CloseState.STILL_LIVE) if _is_doubted(item) else accepted
        if isinstance(found, BsessError):
            return found
        return replace(accepted, state=CloseState.STILL_LIVE) if time.monotonic() >= item.until else None


def _is_doubted(item: _Waiting) -> bool:
    return item.accepted.answer.state is CloseState.ABSENT


def _result(item: _Item | BaseException) -> _Item:
    if isinstance(item, BaseException):
        raise item
    return item


def _id(item: _Waiting) -> str:
    return item.accepted.target.id


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
