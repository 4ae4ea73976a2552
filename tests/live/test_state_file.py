"""The controller's state file: what goes in comes out, and what is no state file is explained."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from wire_stage import profile

from clockwork.errors import ConfigurationError
from clockwork.live.seats import Seat
from clockwork.live.state_file import APPLICATION_ID, Change, Left, State, open_state
from clockwork.live.state_keeper import StateKeeper
from clockwork.messages.ids import GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.remembered import Measured, MeasuredLoad, Remember, Remembered

NAMES = ("gpu1:12345", "gpu2:12345")
JOINED = Seat(WorkerId(2), "gpu3", "a1b2")


def model(model_id: int, source: str = "/models/resnet50") -> ModelInfo:
    """Return a model."""
    return ModelInfo(ModelId(model_id), source, profile())


def measured(model_id: int, worker: int, *exec_ns: int) -> Measured:
    """Return estimates of batch sizes 1, 2, ... on the first GPU of a worker."""
    sizes = tuple(range(1, len(exec_ns) + 1))
    return Measured(ModelId(model_id), WorkerId(worker), GpuId(0), sizes, exec_ns)


def remember(next_id: int, **news: tuple[object, ...]) -> Remember:
    """Return what is new."""
    return Remember(next_model_id=ModelId(next_id), **news)  # type: ignore[arg-type]


def write(path: Path, *changes: Change) -> None:
    """Write changes as one controller would in its life."""
    state = open_state(path)
    state.read(NAMES)
    state.write(changes)
    state.close()


def read(path: Path, names: Sequence[str] = NAMES) -> tuple[Remembered, list[Seat]]:
    """Return what the next controller gets."""
    state = open_state(path)
    try:
        return state.read(names)
    finally:
        state.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where there is no file yet."""
    return tmp_path / "state.db"


def test_a_new_file_is_empty(path: Path) -> None:
    """The first controller remembers nothing, and its ids begin at 0."""
    assert read(path) == (Remembered(), [])


def test_what_was_written_is_read(path: Path) -> None:
    """Models, the next id, measurements, load times and joined workers come back."""
    models = (model(0), model(1), model(4, "/models/other"))
    write(
        path,
        remember(7, models=models),
        remember(
            7,
            measured=(measured(1, 0, 5_000, 8_000), measured(4, 2, 9_000)),
            loads=(MeasuredLoad(ModelId(4), 70_000),),
        ),
        JOINED,
    )
    remembered, seats = read(path)
    assert remembered == Remembered(
        models=models,
        next_model_id=ModelId(7),
        measured=(measured(1, 0, 5_000, 8_000), measured(4, 2, 9_000)),
        loads=(MeasuredLoad(ModelId(4), 70_000),),
        workers=(WorkerId(2),),
    )
    assert seats == [JOINED]
    # Copies share one profile in memory.
    assert remembered.models[0].profile is remembered.models[1].profile


def test_a_removed_model_leaves_nothing_but_its_id(path: Path) -> None:
    """Its measurements go with it; the next id stays above it."""
    write(path, remember(2, models=(model(0), model(1)), measured=(measured(1, 0, 5_000),)))
    write(path, remember(2, removed=(ModelId(1),)))
    assert read(path)[0] == Remembered(models=(model(0),), next_model_id=ModelId(2))


def test_newer_measurements_replace_older_ones(path: Path) -> None:
    """One row per model and GPU."""
    write(path, remember(1, models=(model(0),), measured=(measured(0, 0, 5_000),)))
    write(path, remember(1, measured=(measured(0, 0, 6_000, 9_000),)))
    assert read(path)[0].measured == (measured(0, 0, 6_000, 9_000),)


def test_measurements_of_another_worker_are_forgotten(path: Path) -> None:
    """Who is at a place of the list now was never measured."""
    write(
        path,
        remember(1, models=(model(0),), measured=(measured(0, 0, 5_000), measured(0, 1, 6_000))),
    )
    assert read(path, ("gpu1:12345", "new:12345"))[0].measured == (measured(0, 0, 5_000),)


def test_seats_that_are_in_the_list_now_are_given_up(path: Path) -> None:
    """Ids of the list come first."""
    write(path, JOINED, remember(1, models=(model(0),), measured=(measured(0, 2, 5_000),)))
    remembered, seats = read(path, (*NAMES, "gpu9:12345"))
    assert (remembered.measured, remembered.workers, seats) == ((), (), [])


def test_a_list_that_became_shorter_leaves_no_seats(path: Path) -> None:
    """Workers that were dialled do not dial."""
    write(path)
    assert read(path, NAMES[:1]) == (Remembered(), [])


def test_a_worker_that_left_is_not_expected(path: Path) -> None:
    """Nobody waits for it after a restart."""
    write(path, JOINED, Left(WorkerId(2)))
    assert read(path)[1] == []


def test_what_a_killed_process_committed_is_there(path: Path, tmp_path: Path) -> None:
    """The file may be opened while the log of the last process lies beside it."""
    state = open_state(path)
    state.read(NAMES)
    state.write([remember(1, models=(model(0),))])
    copies = tmp_path / "copies"
    copies.mkdir()
    for each in tmp_path.glob("state.db*"):
        (copies / each.name).write_bytes(each.read_bytes())
    state.close()
    assert read(copies / "state.db")[0].models == (model(0),)


def refusal(path: Path) -> str:
    """Return why a file cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        StateKeeper(path, NAMES, print)
    text = str(caught.value)
    assert str(path) in text
    return text


def test_two_controllers_do_not_share_a_file(path: Path) -> None:
    """The second one is told that it is in use, and by what."""
    state: State = open_state(path)
    text = refusal(path)
    state.close()
    assert "is in use: another controller" in text
    assert "--state another file" in text


def test_a_file_of_another_kind_is_left_alone(path: Path) -> None:
    """A file that is no database is named, and not changed."""
    path.write_text("precious notes\n" * 100)
    assert "move the file away" in refusal(path)
    assert path.read_text() == "precious notes\n" * 100


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """Its tables stay as they are."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE precious (note TEXT)")
    database.close()
    before = path.read_bytes()
    assert "a database of another program" in refusal(path)
    assert path.read_bytes() == before


def test_a_newer_version_is_not_guessed_at(path: Path) -> None:
    """Both versions are named."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE facts (name TEXT)")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 99")
    database.close()
    assert "tables of version 99, this Clockwork knows version 1" in refusal(path)


@pytest.mark.parametrize("profile_text", ["{", '{"inputs": 3}', "\x00"])
def test_values_that_make_no_sense_are_damage(path: Path, profile_text: str) -> None:
    """What cannot be read is told with what to do."""
    write(path, remember(1, models=(model(0),)))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE models SET profile = ?", [profile_text])
    database.close()
    assert "is damaged" in refusal(path)


def test_a_damaged_file_is_found_out(path: Path) -> None:
    """Pages that were overwritten are noticed before anything is used."""
    write(path, remember(500, models=tuple(model(index) for index in range(500))))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))
    assert "damaged" in refusal(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message says what a path has to be."""
    assert "an existing folder" in refusal(tmp_path / "missing" / "state.db")


def test_a_keeper_writes_what_it_is_given_by_its_end(path: Path) -> None:
    """Closing waits until all is in the file; closing again does nothing."""
    keeper = StateKeeper(path, NAMES, print)
    keeper.add(remember(1, models=(model(0),)))
    keeper.add_seat(JOINED)
    keeper.add_seat(Seat(WorkerId(3), "gpu4", "c3"))
    keeper.remove_seat(WorkerId(3))
    keeper.close()
    keeper.close()
    remembered, seats = read(path)
    assert remembered.models == (model(0),)
    assert seats == [JOINED]


def test_a_disk_that_cannot_be_written_stops_nobody(path: Path) -> None:
    """It is told once; models are kept for the next try, measurements are not."""
    lines: list[str] = []
    keeper = StateKeeper(path, NAMES, lines.append)
    database = keeper._state._database
    database.set_authorizer(_deny)
    keeper.add(remember(1, models=(model(0),), measured=(measured(0, 0, 5_000),)))
    keeper.add(remember(1, measured=(measured(0, 0, 6_000),)))
    while not lines:
        keeper._thread.join(0.01)
    database.set_authorizer(None)
    keeper.close()
    assert lines == [f"Cannot write {path}: not authorized; trying again"]
    assert read(path)[0] == Remembered(models=(model(0),), next_model_id=ModelId(1))


def _deny(action: int, *unused: object) -> int:
    is_write = action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)
    return sqlite3.SQLITE_DENY if is_write else sqlite3.SQLITE_OK
