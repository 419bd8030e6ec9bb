"""The simulated RH450: chamber hardware, sequence and watch behind the `Plant` protocol.

Time is integrated on a grid that depends only on the state of the tool, so a run is the same however the server
cuts its advances. The plant knows the hidden truth of each film and tells it in its snapshot only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from equipment.jobs import JobOrder, Parameter
from equipment.simulators.chamber import ChamberPhysics
from equipment.simulators.chamber_hardware import ChamberHardware
from equipment.simulators.chamber_plasma import Target
from equipment.simulators.plant import Activity
from equipment.simulators.resolution import Displays
from equipment.simulators.sputter_faults import FAULTS
from equipment.simulators.sputter_film import FilmBook
from equipment.simulators.sputter_readings import actuals, readings
from equipment.simulators.sputter_recipe import SputterRecipe, order_problems
from equipment.simulators.sputter_sequence import SputterSequence
from equipment.simulators.sputter_watch import BARS_RESUMING, LIFE_BLOCK_PERCENT, SputterWatch
from equipment.sputter import CARRIER_POSITIONS, SPUTTER, Endpoint, SputterPhase
from equipment.tags import TagTable, TagValue

FAST_STEP_S = 0.25
SLOW_STEP_S = 1.0
PARKED_STEP_S = 10.0
IDLE_STEP_S = 600.0
CLOSE_LOOK_S = 15.0
_FAST_PHASES = (SputterPhase.GAS, SputterPhase.STRIKE, SputterPhase.SETTLE)
_DISPLAYS = Displays(SPUTTER)
_ACTIVE = (Activity.RUNNING, Activity.HELD, Activity.SUSPENDED)


class SputterPlant:
    """A sputter tool without its server. `seed` fixes the tool's own errors and every run by its job id."""

    tags: TagTable = SPUTTER
    model = "RH450"
    manufacturer = "Argonaut simulated line"

    def __init__(
        self, seed: int = 1, serial_number: str = "SIM-RH450-1", physics: ChamberPhysics | None = None
    ) -> None:
        self.serial_number = serial_number
        self.activity = Activity.IDLE
        self._seed = seed
        self._physics = physics or ChamberPhysics()
        tool = Random(f"{seed}:tool")
        self._hardware = ChamberHardware(self._physics, tool)
        spread = self._physics.position_spread
        raw = [1.0 + tool.uniform(-spread, spread) for _ in range(CARRIER_POSITIONS)]
        mean = sum(raw) / len(raw)
        self._films = FilmBook(tuple(factor / mean for factor in raw))
        self._targets: dict[str, Target] = {}
        self._walk = 0.0
        self._jobs = 0
        self._random = Random(f"{seed}:idle")
        self._sequence = SputterSequence(self._hardware, self._random)
        self._watch = SputterWatch(self._hardware)
        self._recipe: SputterRecipe | None = None
        self._ending = Activity.COMPLETED
        self._hold_reason = ""
        self._energy_at_start_kwh = 0.0
        self._interrupted = False
        self._model_ok = True
        self._qcm_ok = True
        self._due_s = 0.0
        self._close_look_s = 0.0

    # -- jobs -----------------------------------------------------------------------------------------------------

    def problems(self, order: JobOrder) -> Sequence[str]:
        """Why the tool can't accept the order: its parameters and materials against the tool's hard limits."""
        return order_problems(order)

    def start(self, order: JobOrder) -> Sequence[str]:
        """Begin the job; answers with what forbids it."""
        refusals = list(order_problems(order))
        if self.activity in _ACTIVE:
            refusals.append("the tool already holds a job")
        elif self._sequence.phase is not SputterPhase.IDLE:
            refusals.append("the tool still brings out the pieces of its last job")
        if refusals:
            return refusals
        recipe = SputterRecipe.of(order)
        target = self._target(recipe.target_serial)
        refusals += self._start_permissives(recipe, target)
        if refusals:
            return refusals
        self._jobs += 1
        self._random = Random(f"{self._seed}:{order.job_id}")
        self._walk += self._physics.run_walk * self._random.gauss(0.0, 1.0)
        self._hardware.rate_factor = 1.0 + self._walk + self._physics.run_noise * self._random.gauss(0.0, 1.0)
        self._hardware.plasma.begin_job(target, self._random)
        self._films.begin(order.job_id, target.serial, recipe.carrier)
        self._watch.release()
        self._recipe = recipe
        self._energy_at_start_kwh = target.energy_kwh
        self._interrupted = False
        self._model_ok = True
        self._qcm_ok = self._hardware.crystal.ok
        self._hold_reason = ""
        self._ending = Activity.COMPLETED
        self.activity = Activity.RUNNING
        self._due_s = 0.0
        self._sequence.begin(recipe, self._random)
        return []

    def _start_permissives(self, recipe: SputterRecipe, target: Target) -> list[str]:
        hardware, refusals = self._hardware, []
        if not hardware.water_ok:
            refusals.append("cooling water is missing")
        if hardware.lithium_hazard:
            refusals.append("the lithium hazard was not cleared at the tool")
        if hardware.shutter.lost:
            refusals.append("the shutter is not at a known end")
        if hardware.transfer_locked:
            refusals.append("transfers are locked by the glovebox")
        if not hardware.vacuum.turbo_drive_ok:
            refusals.append("the drive of the turbo pump has tripped")
        if target.energy_kwh >= self._physics.target_life_kwh:
            refusals.append(f"target {target.serial} has used all of its life")
        if recipe.endpoint is not Endpoint.TIME:
            if not hardware.crystal.ok:
                refusals.append("the crystal does not oscillate")
            if hardware.crystal.life_percent > LIFE_BLOCK_PERCENT:
                refusals.append(f"the crystal has used more than {LIFE_BLOCK_PERCENT:g} % of its life")
        return refusals

    def _target(self, serial: str) -> Target:
        if serial not in self._targets:
            own = Random(f"{self._seed}:target:{serial}").gauss(0.0, 1.0)
            self._targets[serial] = Target(serial, 1.0 + self._physics.target_spread * own)
        return self._targets[serial]

    def pause(self) -> bool:
        """Suspend: shutter closed and RF off. Not once the recipe's film is complete."""
        if self.activity is not Activity.RUNNING or self._sequence.phase > SputterPhase.DEPOSIT:
            return False
        self._interrupt(Activity.SUSPENDED, "paused by request")
        return True

    def resume(self) -> bool:
        """Go on with the remaining film; False where the fault still stands."""
        if self.activity not in (Activity.HELD, Activity.SUSPENDED):
            return False
        live = self._watch.live
        if any(name in live for name in BARS_RESUMING) or not self._hardware.vacuum.turbo_drive_ok:
            return False
        self._watch.release()
        self._hold_reason = ""
        self.activity = Activity.RUNNING
        self._close_look_s = CLOSE_LOOK_S
        self._sequence.go_on()
        return True

    def stop(self) -> bool:
        """End in order: the job is STOPPED when its pieces are out."""
        if self.activity not in _ACTIVE or self._ending is Activity.STOPPED:
            return False
        self._count_interruption()
        if self._sequence.phase <= SputterPhase.DEPOSIT:
            self._ending = Activity.STOPPED
        if self.activity is not Activity.RUNNING and self._sequence.phase > SputterPhase.DEPOSIT:
            self._sequence.go_on()
        self._sequence.shut_down()
        self._watch.release()
        self._hold_reason = ""
        self.activity = Activity.RUNNING
        self._close_look_s = CLOSE_LOOK_S
        return True

    def abort(self) -> None:
        """RF off and shutter closed at once; the tool then cools, vents and unloads by itself."""
        if self.activity not in _ACTIVE:
            return
        self._count_interruption()
        self._sequence.make_safe()
        self._sequence.shut_down()
        self._watch.release()
        self._hold_reason = ""
        self._ending = self.activity = Activity.ABORTED
        self._close_look_s = CLOSE_LOOK_S

    def _interrupt(self, activity: Activity, reason: str) -> None:
        self._count_interruption()
        self._sequence.make_safe()
        self.activity = activity
        self._hold_reason = reason
        self._close_look_s = CLOSE_LOOK_S

    def _count_interruption(self) -> None:
        """A film that was begun and is not complete stays flagged for ever."""
        if self.activity is Activity.RUNNING and self._sequence.phase is SputterPhase.DEPOSIT:
            self._films.interruptions += 1
            self._interrupted = True

    # -- time -----------------------------------------------------------------------------------------------------

    def advance(self, dt_s: float) -> None:
        """Integrate over `dt_s`; less than one step of the grid may be left for the next call."""
        self._due_s += dt_s
        while True:
            step_s = self._grid_step_s()
            if self._due_s < step_s - 1e-9:
                return
            self._due_s -= step_s
            self._step(step_s)

    def _grid_step_s(self) -> float:
        if self._sequence.phase is SputterPhase.IDLE and self._close_look_s <= 0.0:
            return min(IDLE_STEP_S, max(SLOW_STEP_S, self._due_s))
        fast = self._close_look_s > 0.0 or self._sequence.phase in _FAST_PHASES or self._watch.pending
        parked = self.activity in (Activity.HELD, Activity.SUSPENDED)
        step_s = FAST_STEP_S if fast else PARKED_STEP_S if parked else SLOW_STEP_S
        if self.activity is Activity.RUNNING:
            left = self._sequence.longest_step_s()
            if 1e-6 < left < step_s:
                return left
        return step_s

    def _step(self, dt_s: float) -> None:
        hardware, sequence = self._hardware, self._sequence
        self._close_look_s = max(0.0, self._close_look_s - dt_s)
        hardware.step(dt_s, self._random)
        before = sequence.phase
        if hardware.growth_nm_per_min > 0.0:
            self._films.grow(hardware, dt_s)
        self._watch_over(dt_s)
        if self.activity in (Activity.RUNNING, Activity.ABORTED):
            self._run_sequence(dt_s)
        if sequence.phase is not before:
            self._close_look_s = CLOSE_LOOK_S

    def _watch_over(self, dt_s: float) -> None:
        hardware, phase = self._hardware, self._sequence.phase
        asking = self._watch.step(dt_s, phase, self._recipe if phase is not SputterPhase.IDLE else None)
        standing = self._watch.standing
        if phase is SputterPhase.IDLE:
            return
        means = self._films.means
        means.peak_temp_c = max(means.peak_temp_c, hardware.disc_reading_c)
        if phase is SputterPhase.DEPOSIT and self.activity is Activity.RUNNING:
            means.add(hardware, dt_s)
        if SputterPhase.RAMP <= phase <= SputterPhase.DEPOSIT:
            means.peak_reflected_w = max(means.peak_reflected_w, hardware.plasma.reflected_reading_w)
        self._model_ok = self._model_ok and not ("gauge_drift" in standing or "target_cracked" in standing)
        self._qcm_ok = self._qcm_ok and hardware.crystal.ok
        if "turbo_trip" in standing:
            hardware.rf_off()
            hardware.vacuum.close_gate()
        if "shutter_stuck" in standing or "water_flow_low" in standing:
            hardware.rf_off()
        if asking and self.activity is Activity.RUNNING and phase <= SputterPhase.DEPOSIT:
            self._hold(asking[0])

    def _run_sequence(self, dt_s: float) -> None:
        alarm = self._sequence.step(dt_s)
        if alarm and self.activity is Activity.RUNNING:
            self._hold(alarm)
        elif self._sequence.phase is SputterPhase.IDLE and self.activity is not self._ending:
            self._finish()
        elif self._sequence.phase is SputterPhase.IDLE:
            self._films.close()

    def _hold(self, alarm: str) -> None:
        self._watch.latch(alarm)
        message = next(definition.message for definition in SPUTTER.alarms if definition.name == alarm)
        self._interrupt(Activity.HELD, message)

    def _finish(self) -> None:
        self.activity = self._ending
        self._watch.release()
        self._films.close()

    # -- what it shows --------------------------------------------------------------------------------------------

    def sample(self) -> Mapping[str, TagValue]:
        """The present value of each tag by name."""
        now = readings(
            self._hardware,
            self._sequence,
            self._recipe,
            hold_reason=self._hold_reason,
            film_interrupted=self._interrupted,
            thickness_model_ok=self._model_ok,
        )
        return _DISPLAYS.shown(now)

    def alarms(self) -> Mapping[str, bool]:
        """Each alarm by name; `lost_mes` is the server's and False here."""
        return self._watch.table()

    def actuals(self) -> Sequence[Parameter]:
        """Results of the job so far, by instruments only; empty before the first job."""
        if self._recipe is None:
            return ()
        return actuals(
            self._hardware,
            self._sequence,
            self._recipe,
            self._films,
            energy_at_start_kwh=self._energy_at_start_kwh,
            qcm_ok=self._qcm_ok,
            thickness_model_ok=self._model_ok,
        )

    # -- faults ---------------------------------------------------------------------------------------------------

    def inject(self, fault: str, active: bool, **settings: float) -> None:
        """Switch a fault on or off; the hard-wired interlock answers before this returns.

        Raises:
            LookupError: The plant has no such fault; the message lists those it has.
        """
        act = FAULTS.get(fault)
        if act is None:
            raise LookupError(f"the sputter plant has no fault {fault!r}; it has {', '.join(sorted(FAULTS))}")
        act(self._hardware, active, settings)
        self._hardware.enforce()
        self._close_look_s = CLOSE_LOOK_S

    # -- restarts -------------------------------------------------------------------------------------------------

    def snapshot(self) -> Mapping[str, object]:
        """Wear of targets and crystal, the run count, and the hidden truth by serial."""
        crystal = self._hardware.crystal
        return {
            "targets": {t.serial: {"energy_kwh": t.energy_kwh, "cracked": t.cracked} for t in self._targets.values()},
            "crystal_g_per_cm2": crystal.film_g_per_cm2,
            "crystal_fails": crystal.fail_count,
            "walk": self._walk,
            "jobs": self._jobs,
            "holder_c": self._hardware.holder_c,
            "running": self.activity in _ACTIVE,
            "truth": self._films.records(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot in a tool that stands idle with its pieces out; a running job was aborted."""
        for serial, worn in state["targets"].items():
            target = self._target(serial)
            target.energy_kwh, target.cracked = float(worn["energy_kwh"]), bool(worn["cracked"])
        crystal = self._hardware.crystal
        crystal.film_g_per_cm2 = float(state["crystal_g_per_cm2"])
        crystal.fail_count = int(state["crystal_fails"])
        self._walk = float(state["walk"])
        self._jobs = int(state["jobs"])
        self._hardware.holder_c = self._hardware.disc_c = float(state["holder_c"])
        self._films.load(state["truth"])
        self.activity = Activity.ABORTED if state["running"] else Activity.IDLE
