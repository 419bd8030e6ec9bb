"""The films on the carrier of the simulated sputter tool: what an instrument may tell, and the hidden truth.

Truth is kept by the serial of the piece and outlives the job; only the snapshot carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from equipment.simulators.chamber_hardware import ChamberHardware


@dataclass(slots=True)
class FilmTruth:
    """What really lies on one piece: thickness in nm, areal mass in µg/cm² and what happened to it."""

    thickness_nm: float = 0.0
    mass_ug_per_cm2: float = 0.0
    density_g_per_cm3: float = 0.0
    interruptions: int = 0
    arcs: int = 0
    peak_temp_c: float = 0.0
    target_serial: str = ""
    jobs: list[str] = field(default_factory=list)

    def record(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


@dataclass(slots=True)
class Means:
    """Time averages over the deposition, and peaks over the job."""

    seconds: float = 0.0
    pressure: float = 0.0
    power: float = 0.0
    argon: float = 0.0
    bias: float = 0.0
    peak_reflected_w: float = 0.0
    peak_temp_c: float = 0.0

    def add(self, hardware: ChamberHardware, dt_s: float) -> None:
        """Weigh the present readings by `dt_s`."""
        self.seconds += dt_s
        self.pressure += hardware.vacuum.reading_pa * dt_s
        self.power += hardware.plasma.forward_reading_w * dt_s
        self.argon += hardware.vacuum.argon.reading_sccm * dt_s
        self.bias += hardware.plasma.bias_v * dt_s

    def mean(self, summed: float) -> float:
        """A sum over the time it was taken; 0 before any."""
        return summed / self.seconds if self.seconds else 0.0


class FilmBook:
    """Growth of one job on its carrier, and the truth of every piece that was ever coated here."""

    def __init__(self, position_factors: tuple[float, ...]) -> None:
        self._factors = position_factors
        self._truth: dict[str, FilmTruth] = {}
        self._carrier: tuple[tuple[int, str], ...] = ()
        self._job_id = ""
        self._target = ""
        self._grown_nm = 0.0
        self._grown_nm_density = 0.0
        self.interruptions = 0
        self.means = Means()
        self._arcs = 0

    def begin(self, job_id: str, target: str, carrier: tuple[tuple[int, str], ...]) -> None:
        """Book what was grown so far and take the next carrier."""
        self.close()
        self._job_id, self._target, self._carrier = job_id, target, carrier
        self.interruptions = 0
        self.means = Means()

    def grow(self, hardware: ChamberHardware, dt_s: float) -> None:
        """Add the growth of `dt_s`."""
        nanometres = hardware.growth_nm_per_min * dt_s / 60.0
        self._grown_nm += nanometres
        self._grown_nm_density += nanometres * hardware.film_density
        self._arcs = hardware.plasma.arcs

    def close(self) -> None:
        """Put the job's growth down in the truth of each piece."""
        self._truth = self._with_job()
        self._carrier = ()
        self._grown_nm = self._grown_nm_density = 0.0

    def _with_job(self) -> dict[str, FilmTruth]:
        book = dict(self._truth)
        if not self._grown_nm:
            return book
        density = self._grown_nm_density / self._grown_nm
        for position, serial in self._carrier:
            old = book.get(serial, FilmTruth())
            thickness = self._grown_nm * self._factors[position - 1]
            total = old.thickness_nm + thickness
            mass = old.mass_ug_per_cm2 + 0.1 * thickness * density
            book[serial] = FilmTruth(
                thickness_nm=total,
                mass_ug_per_cm2=mass,
                density_g_per_cm3=10.0 * mass / total,
                interruptions=old.interruptions + self.interruptions + (1 if old.jobs else 0),
                arcs=old.arcs + self._arcs,
                peak_temp_c=max(old.peak_temp_c, self.means.peak_temp_c),
                target_serial=self._target,
                jobs=[*old.jobs, self._job_id],
            )
        return book

    def records(self) -> dict[str, dict[str, object]]:
        """The truth by serial as JSON, the running job included."""
        return {serial: film.record() for serial, film in self._with_job().items()}

    def load(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Take up what `records` gave.

        Raises:
            ValueError: A record is not one of a film.
        """
        self._truth = _RECORDS.validate_python(records)


_RECORDS = TypeAdapter(dict[str, FilmTruth])
