"""Real bytes in, records or a clear error out."""

from __future__ import annotations

import io
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from equipment.testers import file_errors as errors
from equipment.testers import land, land_profile, land_rows
from equipment.testers.records import StepState

HEADINGS = (
    "Record,TestTime/h,StepTime/h,Current/mA,Capacity/mAh,SpeCap/mAh/g,SOC|DOD/%,Voltage/V,Energy/mWh,"
    "SpeEnergy/Wh/kg,AuxTemp/dC.,AuxVolt/V,SysTime,,Cycle-Index,Step-Index,Step-State"
)
ROWS = (
    "1,0.000000,0.000000,0.0785,0.000000,0,0,0.1812,0.000000,0,-,-,2025-01-01 00:00:00,,1,1,RateC,",
    "2,0.500000,0.500000,0.0785,0.039270,0,0,0.2001,0.007540,0,-,-,2025-01-01 00:30:00,,1,1,RateC,",
    "3,1.000000,0.000000,-0.0785,0.000000,0,0,-0.1811,0.000000,0,25.1,-,2025-01-01 01:00:00,,1,2,RateD,",
    "4,1.500000,0.500000,-0.0785,0.039270,0,0,-0.2002,0.007540,0,25.2,-,2025-01-01 01:30:00,,1,2,RateD,",
    "5,1.600000,0.100000,0,0,0,0,0.0010,0,0,-,-,2025-01-01 01:36:00,,1,3,R,",
)
PREAMBLE = ("Landt export", "Channel: 1-3", "Barcode: CEL-000007", "Remark,simulated", "")
EXAMPLE = "\r\n".join((*PREAMBLE, HEADINGS, *ROWS, ""))


def read(text: str | bytes) -> land.ResultFile:
    return land.read_land(io.BytesIO(text.encode() if isinstance(text, str) else text))


def test_a_landt_csv_is_read_in_si_units_with_positive_current_charging() -> None:
    file = read(EXAMPLE)
    records = file.read()
    assert file.profile.name == "landt_csv"
    assert records.record_index.tolist() == [1, 2, 3, 4, 5]
    assert records.test_time_second.tolist() == pytest.approx([0, 1800, 3600, 5400, 5760])
    assert records.step_time_second.tolist() == pytest.approx([0, 1800, 0, 1800, 360])
    assert records.current_ampere.tolist() == pytest.approx([7.85e-5, 7.85e-5, -7.85e-5, -7.85e-5, 0])
    assert records.voltage_volt.tolist() == [0.1812, 0.2001, -0.1811, -0.2002, 0.001]
    assert records.step_capacity_ah.tolist() == pytest.approx([0, 3.927e-5, 0, 3.927e-5, 0])
    assert records.step_energy_wh[1] == pytest.approx(7.54e-6)
    assert records.cycle_count.tolist() == [1] * 5
    assert records.step_index.tolist() == [1, 1, 2, 2, 3]
    assert records.state.tolist() == [StepState.CHARGE] * 2 + [StepState.DISCHARGE] * 2 + [StepState.REST]
    assert records.unix_time_second[0] == datetime(2025, 1, 1, tzinfo=UTC).timestamp()


def test_a_missing_probe_is_not_a_number_and_a_connected_one_is() -> None:
    temperature = read(EXAMPLE).read().temperature_t1_celsius
    assert np.isnan(temperature[[0, 1, 4]]).all()
    assert temperature[[2, 3]].tolist() == [25.1, 25.2]


def test_the_preamble_tells_what_was_tested() -> None:
    assert read(EXAMPLE).preamble == {"channel": "1-3", "cell_barcode": "CEL-000007", "remark": "simulated"}


def test_mass_specific_columns_are_set_aside_and_unknown_ones_reported() -> None:
    file = read(EXAMPLE.replace("AuxVolt/V", "Humidity/%"))
    assert "genealogy" in file.header.set_aside["SpeCap/mAh/g"]
    assert file.header.unplaced == ("Humidity/%",)


def test_rows_without_the_trailing_comma_and_with_quotes_are_the_same() -> None:
    ragged = EXAMPLE.replace("RateC,\r\n", "RateC\r\n", 1).replace("0.2001", '"0.2001"')
    for left, right in zip(
        read(ragged).read().columns().values(), read(EXAMPLE).read().columns().values(), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_currents_in_microampere_are_told_by_their_heading() -> None:
    microampere = EXAMPLE.replace("Current/mA", "Current/uA").replace("0.0785,", "78.5,")
    assert read(microampere).read().current_ampere[0] == pytest.approx(7.85e-5)


CHINESE = (
    "记录序号,测试时间/Sec,电流/mA,容量/mAh,比容量/mAh/g,电压/V,状态\r\n"
    "1,0,0.0785,0,0,0.18,C_CC\r\n"
    "2,1800,0.0785,0.03925,0,0.2,C_CC\r\n"
    "3,1800,-0.0785,0,0,-0.18,D_CC\r\n"
    "4,3600,-0.0785,0.03925,0,-0.2,D_CC\r\n"
    "5,3600,0,0,0,0.0,R\r\n"
    "6,3700,0.0785,0,0,0.18,C_CC\r\n"
)


@pytest.mark.parametrize("encoding", ["gb2312", "utf-8-sig"])
def test_chinese_headings_are_read_and_cycles_and_steps_counted(encoding: str) -> None:
    file = read(CHINESE.encode(encoding))
    records = file.read()
    assert file.profile.name == "land_chinese_csv"
    assert records.cycle_count.tolist() == [1, 1, 1, 1, 1, 2]
    assert records.step_index.tolist() == [1, 1, 2, 2, 3, 4]
    assert records.step_time_second.tolist() == [0, 1800, 0, 1800, 0, 0]
    assert np.isnan(records.unix_time_second).all()


def test_a_rest_before_the_first_half_cycle_belongs_to_the_first_cycle() -> None:
    heading, *rows = CHINESE.splitlines(keepends=True)
    rested = "".join((heading, "0,0,0,0,0,0.0,R\r\n", *rows))
    assert read(rested).read().cycle_count.tolist() == [1, 1, 1, 1, 1, 1, 2]


def test_the_clock_of_the_tester_pc_is_turned_into_utc_by_the_profile() -> None:
    text = "记录序号,测试时间/Sec,电流/mA,电压/V,系统时间,状态\n1,0,0.1,0.2,2025-01-01 08:00:00,C_CC\n"
    assert read(text).read().unix_time_second.tolist() == [datetime(2025, 1, 1, tzinfo=UTC).timestamp()]


def test_counting_goes_on_over_the_edges_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(CHINESE).read()
    monkeypatch.setattr(land_rows, "BLOCK_BYTES", 50)
    batches = list(read(CHINESE).batches())
    assert len(batches) > 3
    for left, right in zip(whole.columns().values(), whole.concatenate(batches).columns().values(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_tab_separated_text_with_durations_is_read() -> None:
    text = (
        "Index\tTestTime\tStepTime\tVoltage/V\tCurrent/mA\tCapacity/mAh\tSCapacity/mAh/g\tSysTime\tState\n"
        "1\t0-00:00:00\t00:00:00\t0.2\t0.1\t0\t0\t2025-01-01 00:00:00\tC_CC\n"
        "2\t1-02:03:04\t1 02:03:04.500\t0.2\t0.1\t2.6\t0\t2025-01-02 02:03:04\tC_CC\n"
    )
    file = read(text)
    assert file.profile.name == "landt_txt"
    assert file.read().test_time_second.tolist() == [0, 93784]
    assert file.read().step_time_second.tolist() == [0, 93784.5]


def damaged(change: tuple[str, str]) -> str:
    assert change[0] in EXAMPLE
    return EXAMPLE.replace(*change, 1)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (EXAMPLE[:-30], errors.TruncatedFile, "line 11: stops in the middle of this row"),
        (EXAMPLE[: EXAMPLE.index(ROWS[0])], errors.TruncatedFile, "stops before its first record"),
        ("", errors.TruncatedFile, "is empty"),
        (damaged((",0.2001,", ",0,2001,")), errors.BadValue, "line 8: the row has fields beyond"),
        (damaged((",0.2001,", ",")), errors.BadValue, "line 8: Step-Index is 'RateC', not a whole number"),
        (damaged((",0.2001,", ",nan,")), errors.BadValue, "line 8: Voltage/V is 'nan', not a number in V"),
        (damaged((",0.2001,", ",1_0,")), errors.BadValue, "line 8: Voltage/V is '1_0', not a number in V"),
        (damaged((",0.2001,", ",-,")), errors.BadValue, "line 8: Voltage/V is '-', not a number in V"),
        (damaged(("RateD", "Pulse")), errors.BadValue, "line 9: Step-State is 'Pulse', not one of R, RateC"),
        (damaged(("2025-01-01 01:00:00", "yesterday")), errors.BadValue, "line 9: SysTime is 'yesterday'"),
        (damaged(("\r\n3,", "\r\n2,")), errors.BadValue, "line 9: the record number does not grow"),
        (damaged(("\r\n3,", "\r\n2.5,")), errors.BadValue, "line 9: Record is '2.5', not a whole number"),
        (damaged((",1.500000,0.5", ",0.900000,0.5")), errors.BadValue, "line 10: the test time runs backwards"),
        (EXAMPLE.replace("RateC", "x").replace("RateD", "RateC").replace("x", "RateD"), errors.BadValue, "sign"),
        (damaged(("Voltage/V", "Potential")), errors.MissingColumns, "landt_csv but has no column for voltage_volt"),
        ("frequency,impedance\r\n1,2\r\n", errors.ForeignFile, "no profile knows this file .*landt_csv: no header"),
        (EXAMPLE.replace("0.2001", "0.20\x0001"), errors.WrongEncoding, "NUL"),
        (EXAMPLE.encode("utf-16"), errors.WrongEncoding, "UTF-16"),
        (damaged(("Barcode: ", "Barcode: ö")).encode("latin-1"), errors.ForeignFile, "is not text in utf-8"),
    ],
)
def test_a_damaged_or_foreign_file_gets_a_clear_error(
    text: str | bytes, error: type[errors.ResultFileError], says: str
) -> None:
    with pytest.raises(error, match=says):
        read(text).read()


def test_bad_bytes_far_down_the_file_are_named_by_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land, "HEAD_BYTES", len("\r\n".join((*PREAMBLE, HEADINGS))) + 2)
    with pytest.raises(errors.WrongEncoding, match="line 9: is not utf-8 text"):
        read(damaged(("25.1", "25.ä")).encode("latin-1")).read()


def test_batches_before_a_fault_are_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land_rows, "BLOCK_BYTES", 120)
    batches = read(EXAMPLE[:-30]).batches()
    assert len(next(batches)) > 0


@pytest.mark.parametrize("name", ["cell.cex", "CELL.CCS"])
def test_the_binary_format_is_refused_with_a_word_on_what_to_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x01\x02\x00")
    with pytest.raises(errors.BinaryTesterFile, match="export it as csv or text"):
        land.read_land(path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "cell.csv"
    path.write_text(EXAMPLE, newline="")
    with pytest.raises(errors.FileTooLarge, match="at most 100 are read"):
        land.read_land(path, max_bytes=100)


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(errors.FileTooLarge, match="a line is longer"):
        read(EXAMPLE + "7" * 300_000).read()


def test_memory_does_not_grow_with_the_length_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land_rows, "BLOCK_BYTES", 1 << 16)

    def peak_of(n_records: int) -> int:
        head, row = EXAMPLE[: EXAMPLE.index(ROWS[0])], ROWS[0][1:]
        stream = io.BytesIO((head + "".join(f"{i}{row}\r\n" for i in range(1, n_records + 1))).encode())
        tracemalloc.start()
        assert sum(len(batch) for batch in land.read_land(stream).batches()) == n_records
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak_of(40_000) < 1.2 * peak_of(10_000)


def test_a_trial_says_what_fits_what_has_no_place_and_why_others_do_not_fit() -> None:
    report = land.try_file(io.BytesIO(EXAMPLE.replace("AuxVolt/V", "Humidity/%").encode()))
    assert (report.profile, report.n_records, report.problem) == ("landt_csv", 5, None)
    assert report.columns["Current/mA"] == "current_ampere"
    assert report.unplaced == ("Humidity/%",)
    assert report.rejected["land_chinese_csv"] == "no header in its first 100 lines"
    assert set(report.rejected) == {"land_chinese_csv", "landt_txt"}


def test_a_trial_of_a_broken_file_tells_how_far_it_can_be_read() -> None:
    report = land.try_file(io.BytesIO(damaged(("RateD", "Pulse")).encode()))
    assert report.profile == "landt_csv"
    assert report.problem is not None
    assert "Pulse" in report.problem


def own_profile(folder: Path, **changes: object) -> Path:
    published = yaml.safe_load((land_profile.PROFILES_FOLDER / "landt_csv.yaml").read_text("utf-8"))
    (folder / "own.yaml").write_text(yaml.safe_dump(published | changes), "utf-8")
    return folder


def test_a_lab_reads_its_own_export_by_adding_a_profile_and_no_code(tmp_path: Path) -> None:
    columns = {
        "record_index": {"#": "1"},
        "test_time_second": {"t [min]": "min"},
        "voltage_volt": {"U [mV]": "mV"},
        "current_ampere": {"|I| [mA]": "mA"},
        "state": {"mode": "state"},
    }
    changes = {"name": "own", "columns": columns, "current": "by_state", "states": {"+": "charge", "-": "discharge"}}
    profiles = land_profile.load_profiles(own_profile(tmp_path, delimiter=";", **changes))
    file = land.read_land(io.BytesIO(b"#;t [min];U [mV];|I| [mA];mode\n1;0;200;0.1;+\n2;30;-190;0.1;-\n"), profiles)
    assert file.profile.name == "own"
    assert file.read().current_ampere.tolist() == pytest.approx([1e-4, -1e-4])
    assert file.read().voltage_volt.tolist() == pytest.approx([0.2, -0.19])


def test_two_profiles_that_fit_equally_well_are_not_chosen_between(tmp_path: Path) -> None:
    profiles = land_profile.load_profiles(own_profile(tmp_path, name="own"))
    with pytest.raises(errors.ForeignFile, match="landt_csv and own fit equally well"):
        land.read_land(io.BytesIO(EXAMPLE.encode()), profiles)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": {"voltage_volt": {"U": "mA"}}}, "'U' can't be in 'mA': voltage_volt takes V, mV"),
        ({"columns": {"potential": {"U": "V"}}}, "there is no column potential"),
        ({"columns": {"voltage_volt": {"U": "V"}}}, "these columns need a heading: record_index"),
        ({"set_aside": {"Voltage/V": "twice"}}, "these headings have two places: Voltage/V"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"states": {"R": "sleep"}}, "states.R"),
    ],
)
def test_a_wrong_profile_says_what_is_wrong(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(errors.ProfileInvalid, match=says):
        land_profile.load_profiles(own_profile(tmp_path, **changes))


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused_with_an_error_of_the_tree(noise: bytes) -> None:
    head = EXAMPLE[: EXAMPLE.index(ROWS[2])].encode()
    for data in (noise, head + noise):
        try:
            assert len(read(data).read()) > 0
        except errors.ResultFileError:
            continue


def test_a_file_cut_within_a_row_is_never_taken_for_whole() -> None:
    first_row = EXAMPLE.index(ROWS[0])
    for cut in range(len(EXAMPLE)):
        text = EXAMPLE[:cut]
        if text.endswith("\n") and cut > first_row:
            assert len(read(text).read()) == text.count("\n") - len(PREAMBLE) - 1
        else:
            with pytest.raises(errors.ResultFileError):
                read(text).read()
