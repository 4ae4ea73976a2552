"""What Ctrl-C does to an experiment, wherever it comes."""

import os
import signal

import pytest

from clockwork.live.experiments.interruption import SIGNALS, Interruption


def send(number: signal.Signals = signal.SIGINT) -> None:
    """Send a signal to this process; its handler runs before this returns."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    """Nothing is torn apart; whoever asks learns of it."""
    with Interruption() as interruption:
        assert not interruption.is_wanted
        send(number)
        assert interruption.is_wanted


def test_a_listener_hears_every_signal() -> None:
    """Also one that came before it listened, and never after it has left."""
    heard: list[str] = []
    with Interruption() as interruption:
        send()
        with interruption.told_to(lambda: heard.append("first")):
            assert heard == ["first"]
            send()
        with interruption.told_to(lambda: heard.append("second")):
            pass
    assert heard == ["first", "first", "second"]


def test_a_second_signal_that_nobody_hears_interrupts() -> None:
    """Who asks twice means it."""
    with Interruption():
        send()
        with pytest.raises(KeyboardInterrupt):
            send()


def test_the_handlers_before_come_back() -> None:
    """Also after an exception."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), Interruption():
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before
