"""The user's tables: read on top of the package's, written whole, and never in the op's way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusedops import backends, plans, tables
from fusedops.__main__ import main
from fusedops.cli import doctor
from fusedops.registry import CARDS, H200, Card, Measurement, Problem, Table
from fusedops.registry.table import MOST_OF_A_SIZE, shipped_tables
from fusedops.registry.user_tables import file_of, without_unknown

CARD = H200.name, H200.capability
SHAPE = (1024, 8192, 8192)
PROBLEM = Problem.contiguous(*SHAPE, torch.float16, card=H200)
FILE = file_of(H200.name)
A, B = "64x128x64_w4_s3_g8", "128x128x64_w8_s3_g8"
"""Configurations of triton.tiled."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder for the user's tables, and nothing remembered of another."""
    monkeypatch.setenv("FUSEDOPS_TABLES", str(tmp_path / "tables"))
    monkeypatch.setattr(tables, "_warned", set())
    tables.forget()
    yield tmp_path / "tables"
    tables.forget()


def row(
    shape: tuple[int, int, int] = SHAPE,
    kernel: str = "triton.tiled",
    config: str = A,
    time: float = 1.0,
    dtype: str = "float16",
) -> Measurement:
    return Measurement(*shape, dtype, kernel, config, time, "a test")


def rows_of(table: Table, shape=SHAPE, dtype="float16") -> list[tuple[str, str]]:
    return [
        (each.kernel, each.config)
        for each in table.measurements
        if (each.shape, each.dtype) == (shape, dtype)
    ]


def test_a_users_rows_come_before_the_shipped_ones_of_their_shape_and_dtype(folder):
    shipped = shipped_tables()[H200.name]
    assert len(rows_of(shipped)) > 1
    assert tables.apply([row(), row(config=B)], *CARD) == folder / FILE
    merged = tables.table_for(PROBLEM)
    assert rows_of(merged) == [("triton.tiled", A), ("triton.tiled", B)]
    untouched = rows_of(shipped, dtype="bfloat16")
    assert untouched and rows_of(merged, dtype="bfloat16") == untouched
    others = {each for each in shipped.measurements if (each.shape, each.dtype) != _key(row())}
    assert others < set(merged.measurements)


def _key(measurement: Measurement) -> tuple[object, ...]:
    return measurement.shape, measurement.dtype


def test_applying_again_replaces_a_shape_and_keeps_the_rest():
    other = (64, 64, 64)
    tables.apply([row(), row(other), row(dtype="float32")], *CARD)
    path = tables.apply([row(config="new")], *CARD)
    written = Table.read(path)
    assert rows_of(written) == [("triton.tiled", "new")]
    assert rows_of(written, other) == [("triton.tiled", A)]
    assert rows_of(written, dtype="float32") == [("triton.tiled", A)]


def test_a_device_without_a_shipped_table_has_the_users_alone():
    card = Card("NVIDIA Something", (9, 0), 99)
    problem = card.place(PROBLEM)
    assert tables.table_for(problem).device == H200.name
    tables.apply([row()], card.name, card.capability)
    assert [each.device for each in (tables.table_for(problem), tables.table_for(PROBLEM))] == [
        card.name,
        H200.name,
    ]
    assert len(tables.table_for(problem).measurements) == 1


def test_later_calls_of_the_process_choose_anew():
    config = next(
        str(each)
        for kernel in plans.backends.kernels()
        if kernel.name == "triton.tiled"
        for each in kernel.configs(PROBLEM)
    )
    plans.keep("a plan", ())
    before = plans.explain(PROBLEM, plans.Request())
    path = tables.apply([row(config=config, time=0.5)], *CARD)
    assert plans.kept("a plan") is None
    assert str(path) not in before.why
    assert plans.tables.table_for(PROBLEM).measurements[-1].file == str(path)
    kernels = [replace(k, ready=lambda *_: True) for k in plans.backends.kernels()]
    choice = plans.select(PROBLEM, plans.Request(), kernels, {}, tables.table_for(PROBLEM))
    assert (choice.kernel.name, str(choice.config)) == ("triton.tiled", config)
    assert f"it was the fastest measured (your table, {path}): 0.5 us" in choice.why


def test_explain_and_doctor_say_where_the_table_lies(capsys, monkeypatch):
    kernel = next(each for each in plans.backends.kernels() if each.name == "triton.tiled")
    path = tables.apply([row(config=str(kernel.configs(PROBLEM)[0]), time=0.5)], *CARD)
    monkeypatch.setattr("fusedops.backends.kernels", lambda: (kernel,))
    asked = ["--m", "1024", "--n", "8192", "--k", "8192", "--arch", "sm_90"]
    assert main(["explain", *asked]) == 0
    assert f"your table, {path}" in capsys.readouterr().out
    shown = doctor.as_text({"tables of yours": doctor.PROBES["tables of yours"]()})
    assert f"folder: {path.parent}\n" in shown
    assert all(part in shown for part in (str(path), "1 rows", "a test"))


APPLY = """
import sys
from fusedops import tables
from fusedops.registry import H200, Measurement
first, count = map(int, sys.argv[1:])
for m in range(first, first + count):
    tables.apply([Measurement(m, 8, 8, "float16", "triton.tiled", "a", 1.0)], *{card})
"""


def applying(*words: object, before: str = "") -> subprocess.Popen[str]:
    code = before + APPLY.format(card=CARD)
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_lose_nothing(folder):
    processes = [applying(1, 40), applying(101, 40)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    written = {each.m for each in Table.read(folder / FILE).measurements}
    assert written == {*range(1, 41), *range(101, 141)}


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_killed_while_writing_the_old_table_is_whole(folder, moment):
    tables.apply([row()], *CARD)
    old = (folder / FILE).read_bytes()
    deadly = f"import os, signal\n{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    killed = applying(1, 1, before=deadly)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert (folder / FILE).read_bytes() == old
    tables.apply([row((2, 2, 2))], *CARD)  # its lock went with it
    assert len(Table.read(folder / FILE).measurements) == 2


def warned_of(problem: Problem = PROBLEM) -> list[str]:
    """What three choices, and two of them after a change, warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert tables.table_for(problem) is not None
            tables.forget()
        assert tables.table_for(problem) == shipped_tables()[H200.name]
    return [str(each.message) for each in caught]


def put(folder: Path, document: object, name: str = FILE) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))


def a_document(**changes: object) -> dict[str, object]:
    return Table(*CARD, (row(),)).document() | changes


A_ROW = a_document()["measurements"][0]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "is no table"),
        ("[]", "is no table"),
        ("\x00", "is no table"),
        ({"a": "table"}, "is no table"),
        (a_document(schema=2), "its schema is 2; this version reads 1"),
        (a_document(capability=["9", "0"]), "no card is"),
        (a_document(device=7), "no card is"),
        (a_document(device="NVIDIA B200"), "nvidia_b200.json"),
        (a_document(measurements=[A_ROW | {"m": 1.5}]), "sizes are whole"),
        (a_document(measurements=[A_ROW | {"m": 10**400}]), "sizes are whole"),
        (a_document(measurements=[A_ROW | {"n": MOST_OF_A_SIZE + 1}]), "sizes are whole"),
        (a_document(measurements=[A_ROW | {"microseconds": float("nan")}]), "times are positive"),
        (a_document(measurements=[A_ROW | {"microseconds": "1"}]), "times are positive"),
        (a_document(measurements=[A_ROW | {"microseconds": 10**400}]), "times are positive"),
        (a_document(measurements=[A_ROW | {"microseconds": True}]), "times are positive"),
        (a_document(capability=[8, 9]), "NVIDIA H200 is of capability 9.0, not 8.9"),
        (
            a_document(
                measurements=[A_ROW | {"kernel": "cuda.sm90_cooperative", "config": "gone"}]
            ),
            "1024x8192x8192 float16 cuda.sm90_cooperative gone",
        ),
        (a_document(measurements=[A_ROW | {"config": "None"}]), "triton.tiled None"),
        (a_document(measurements=[A_ROW | {"dtype": "float99"}]), "8192x8192 float99 triton.tiled"),
        (a_document(measurements=[A_ROW | {"kernel": 3}]), "names are texts"),
        (a_document(measurements=[A_ROW | {"watts": 3}]), "watts"),
        (a_document(measurements=[A_ROW | {"kernel": "triton.unheard"}]), "triton.unheard"),
        (a_document(measurements=[A_ROW | {"kernel": "rust.tiled"}]), "rust.tiled"),
    ],
)
def test_what_is_no_table_of_the_card_is_named_once_and_left_out(document, says, folder):
    put(folder, document)
    (warning,) = warned_of()
    assert str(folder / FILE) in warning
    assert says in warning


@pytest.mark.parametrize("name", CARDS)
def test_every_shipped_row_would_be_known_in_a_users_table(name):
    table = shipped_tables()[CARDS[name].name]
    assert table.measurements
    missing = backends.missing()  # their rows are kept unread
    assert without_unknown(table, backends.kernels(), missing, pytest.fail) == table


def test_a_configuration_that_is_gone_hides_nothing(folder):
    """What the shipped table would choose is chosen, whichever of a shape's rows are gone."""
    shipped = rows_of(tables.table_for(PROBLEM))
    gone = [A_ROW | {"config": f"gone_{number}"} for number in range(5)]
    put(folder, a_document(measurements=gone))
    with pytest.warns(UserWarning, match=r"tiled gone_0; .*gone_2; and 2 more\)"):
        tables.forget()
        assert rows_of(tables.table_for(PROBLEM)) == shipped
    put(folder, a_document(measurements=[*gone, A_ROW]))
    tables.forget()
    assert rows_of(tables.table_for(PROBLEM)) == [("triton.tiled", A)]


def test_a_capability_that_is_not_the_cards_is_not_written(folder):
    with pytest.raises(ValueError, match=r"NVIDIA H200 is of capability 9\.0, not 8\.9"):
        tables.apply([row()], H200.name, (8, 9))
    assert not folder.exists()
    put(folder, a_document(capability=[8, 9]))
    with pytest.warns(UserWarning, match=r"capability 9\.0, not 8\.9; it was renamed"):
        path = tables.apply([row()], *CARD)
    assert Table.read(path).capability == H200.capability


def test_a_kernel_of_a_backend_that_is_missing_here_is_not_foreign(folder, monkeypatch):
    monkeypatch.setattr("fusedops.backends.missing", lambda: {"cuda": "no card"})
    put(folder, a_document(measurements=[A_ROW | {"kernel": "cuda.unbuilt"}]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows_of(tables.table_for(PROBLEM)) == [("cuda.unbuilt", A)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_truncated_anywhere_it_is_left_out_and_named(folder, data):
    whole = Table(*CARD, (row(), row((3, 5, 7), config="é"))).as_text().encode()
    length = data.draw(st.integers(0, len(whole) - len("}\n")))
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(whole[:length])
    tables._warned.clear()
    tables.forget()
    (warning,) = warned_of()
    assert str(folder / FILE) in warning


def test_a_folder_that_is_none_or_cannot_be_read(folder, tmp_path, monkeypatch):
    assert warned_of() == []  # does not exist
    file = tmp_path / "a_file"
    file.write_text("")
    monkeypatch.setenv("FUSEDOPS_TABLES", str(file))
    assert warned_of() == []
    with pytest.raises(OSError, match="a_file"):
        tables.apply([row()], *CARD)
    put(folder, a_document())
    monkeypatch.setenv("FUSEDOPS_TABLES", str(folder))
    monkeypatch.setattr(Path, "read_text", _denied)
    assert "Permission denied" in warned_of()[0]
    monkeypatch.setattr(Path, "is_dir", _denied)
    assert f"Permission denied: '{folder}'" in warned_of()[0]


def _denied(path: Path) -> str:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_read_only_folder_is_read_and_refuses_to_be_written(folder, monkeypatch):
    path = tables.apply([row()], *CARD)
    monkeypatch.setattr("fusedops.tables.write_whole", lambda path, text: _denied(path))
    with pytest.raises(PermissionError, match=str(path)):
        tables.apply([row(config=B)], *CARD)
    tables.forget()
    assert rows_of(tables.table_for(PROBLEM)) == [("triton.tiled", A)]
    if os.geteuid():  # nothing is read-only to root
        monkeypatch.undo()
        folder.chmod(0o500)
        with pytest.raises(PermissionError):
            tables.apply([row((2, 2, 2))], *CARD)


def test_applying_over_what_is_no_table_keeps_it_aside(folder):
    put(folder, "{")
    with pytest.warns(UserWarning, match=r"is no table.*renamed to nvidia_h200\.refused"):
        path = tables.apply([row()], *CARD)
    assert (folder / "nvidia_h200.refused").read_text() == "{"
    assert rows_of(Table.read(path)) == [("triton.tiled", A)]


def test_every_file_that_was_set_aside_is_kept(folder):
    bad = ["{", "[", "(", "<"]
    for text in bad:
        put(folder, text)
        with pytest.warns(UserWarning, match="renamed to"):
            tables.apply([row()], *CARD)
        tables._warned.clear()
    kept = ["nvidia_h200.refused", *(f"nvidia_h200.{number}.refused" for number in (2, 3, 4))]
    assert [(folder / name).read_text() for name in kept] == bad


def test_applying_over_a_device_of_the_same_file_name(folder):
    put(folder, a_document(device="nvidia-h200"))
    with pytest.warns(UserWarning, match="is the table of nvidia-h200"):
        path = tables.apply([row()], *CARD)
    assert Table.read(path).device == H200.name


def test_what_cannot_be_a_measurement_is_not_written(folder):
    with pytest.raises(ValueError, match="times are positive"):
        tables.apply([row(time=float("inf"))], *CARD)
    assert not folder.exists()


def test_the_folder_is_platformdirs_unless_it_is_named(monkeypatch, tmp_path):
    platformdirs = pytest.importorskip("platformdirs")
    assert tables.folder() == Path(os.environ["FUSEDOPS_TABLES"])
    monkeypatch.setenv("FUSEDOPS_TABLES", "~/mine")
    assert tables.folder() == Path.home() / "mine"
    monkeypatch.delenv("FUSEDOPS_TABLES")
    assert tables.folder() == platformdirs.user_data_path("fusedops", appauthor=False) / "tables"
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert tables.folder() is None
    assert tables.table_for(PROBLEM) == shipped_tables()[H200.name]
    assert "pip install platformdirs" in doctor.PROBES["tables of yours"]()["folder"]
    with pytest.raises(OSError, match="pip install platformdirs"):
        tables.apply([row()], *CARD)


@pytest.mark.parametrize("named", ["~nosuchuser/x", "~/x"])
def test_a_folder_of_nobody_is_warned_of_and_left_out(named, monkeypatch):
    monkeypatch.setenv("FUSEDOPS_TABLES", named)
    monkeypatch.setattr(os.path, "expanduser", str)  # no such user, no home
    (warning,) = warned_of()
    assert f"FUSEDOPS_TABLES is '{named}'" in warning
    assert f"FUSEDOPS_TABLES is '{named}'" in doctor.PROBES["tables of yours"]()["folder"]
    with pytest.raises(OSError, match=f"FUSEDOPS_TABLES is '{named}'"):
        tables.apply([row()], *CARD)


texts = st.text(max_size=6)
measurements = st.builds(
    Measurement,
    *(st.integers(1, MOST_OF_A_SIZE),) * 3,
    st.sampled_from(["float16", "tf32"]),
    texts,
    texts,
    st.floats(min_value=1e-3, max_value=1e12),
    texts,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(measurements, max_size=8))
def test_a_table_reads_as_it_was_written(tmp_path, rows):
    table = Table("a card", (8, 9), tuple(rows))
    (tmp_path / "a_card.json").write_text(table.as_text())
    assert Table.read(tmp_path / "a_card.json") == table


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(
    st.lists(measurements, min_size=1, max_size=3), st.sampled_from(backends.kernels()), st.data()
)
def test_whatever_rows_hold_choosing_goes_on(folder, rows, kernel, data):
    configs = [*map(str, kernel.configs(PROBLEM)), A, "", "None"]
    rows = [
        replace(
            each,
            kernel=kernel.name,
            config=data.draw(st.sampled_from(configs)),
            microseconds=data.draw(st.sampled_from([5e-324, 1, sys.float_info.max, 10**308])),
        )
        for each in rows
    ]
    put(folder, Table(*CARD, tuple(rows)).document())
    tables.forget()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = tables.table_for(PROBLEM)
        for shape in (SHAPE, rows[0].shape, (1, 1, 1)):
            table.predict(PROBLEM.resized(*shape), backends.kernels())
