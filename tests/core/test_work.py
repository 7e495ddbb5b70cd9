"""`core.work`: what the steps share about one action."""

from monitor_contact_service.core.work import Work


def test_new_work_has_its_deadline_and_nothing_behind_it() -> None:
    """Nothing was sent, nobody has left."""
    work = Work(10.0)
    assert work.deadline == 10.0
    assert (work.sending, work.sent, work.unknown, work.succeeded, work.abandoned) == (False,) * 5
    assert not work.must_be_finished


def test_a_moved_deadline_is_told_once_and_after_the_fact() -> None:
    """The queue reads the new deadline when it is told; setting the same again tells nothing."""
    work = Work(10.0)
    seen: list[float] = []
    work.on_moved = lambda: seen.append(work.deadline)
    work.deadline = 12.0
    work.deadline = 12.0
    work.deadline = 11.0
    assert seen == [12.0, 11.0]


def test_a_deadline_moves_also_while_nobody_listens() -> None:
    """Work that does not wait in the queue needs no listener."""
    work = Work(10.0)
    work.deadline = 12.0
    assert work.deadline == 12.0


def test_what_was_sent_once_stays_sent() -> None:
    """The attempt comes to its end, but what it may have done remains."""
    work = Work(10.0)
    work.sending = True
    assert work.sent
    work.sending = False
    assert not work.sending
    assert work.sent


def test_what_was_sent_is_unknown_until_somebody_says_what_became_of_it() -> None:
    """An attempt that is cut off leaves it so."""
    work = Work(10.0)
    work.sending = True
    work.sending = False
    assert work.unknown


def test_what_may_take_effect_or_has_must_be_finished() -> None:
    """An attempt on its way cannot be called back, and a session that has started has to be written down."""
    sending, between, succeeded = Work(10.0), Work(10.0), Work(10.0)
    sending.sending = between.sending = succeeded.sending = True
    between.sending = succeeded.sending = False
    succeeded.succeeded = True
    assert [work.must_be_finished for work in (sending, between, succeeded)] == [True, False, True]
