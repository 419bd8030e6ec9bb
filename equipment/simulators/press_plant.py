"""The simulated glovebox press: ram, powder, interlocks and the sequence of a stroke behind the `Plant` protocol.

The true density of each pellet is kept by its serial through all its strokes and told in the snapshot only; tags
and actuals carry what load cell and ram position say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from equipment.jobs import JobOrder, Parameter
from equipment.press import PRESS, PressPhase, die_area_mm2, pressure_mpa
from equipment.simulators.glovebox import EXCURSION_PPM, Glovebox
from equipment.simulators.plant import Activity
from equipment.simulators.press_powder import Pellet, PowderPhysics, loose_thickness_mm
from equipment.simulators.press_ram import Ram
from equipment.simulators.press_recipe import PressRecipe, order_problems
from equipment.simulators.press_shelf import PelletShelf
from equipment.simulators.press_stroke import Stroke
from equipment.simulators.resolution import Displays
from equipment.tags import TagTable, TagValue

STROKE_STEP_S = 0.05
IDLE_STEP_S = 600.0
GLOVEBOX_LIMIT_PPM = 1.0
FORCE_LIMIT_KN = 36.5
OVER_FORCE = 1.05
FRACTURE_DROP = 0.05
DEVIATION = 0.05
DEVIATION_S = 1.0
AT_FORCE = 0.01
STACK_WINDOW = (0.6, 3.0)
RAMP_TIMEOUT_S = 30.0
_DISPLAYS = Displays(PRESS)
_ACTIVE = (Activity.RUNNING, Activity.HELD, Activity.SUSPENDED)


class PressPlant:
    """A press without its server. `seed` fixes each pellet by its serial and each stroke by its job id."""

    tags: TagTable = PRESS
    model = "GP-50"
    manufacturer = "Argonaut simulated line"

    def __init__(
        self,
        seed: int = 1,
        serial_number: str = "SIM-PRESS-1",
        die_id: str = "DIE-10-1",
        die_diameter_mm: float = 10.0,
        physics: PowderPhysics | None = None,
    ) -> None:
        self.serial_number = serial_number
        self.activity = Activity.IDLE
        self._seed = seed
        self._physics = physics or PowderPhysics()
        self._own_die = (die_id, die_diameter_mm)
        self._die = self._own_die
        self._random = Random(f"{seed}:idle")
        self._ram = Ram()
        self._glovebox = Glovebox()
        self._shelf = PelletShelf(seed, self._physics, die_diameter_mm)
        self._pellet: Pellet | None = None
        self._recipe: PressRecipe | None = None
        self._ending = Activity.COMPLETED
        self._guard_closed = True
        self._empty_die = False
        self._crack_pending = 0.0
        self._latched: dict[str, None] = {}
        self._hold_reason = ""
        self._ram_strokes = 0
        self._die_strokes = 0
        self._due_s = 0.0
        self._stroke = Stroke()

    # -- jobs -----------------------------------------------------------------------------------------------------

    def problems(self, order: JobOrder) -> Sequence[str]:
        """Why the press can't accept the order."""
        return order_problems(order)

    def start(self, order: JobOrder) -> Sequence[str]:
        """Begin the stroke; answers with what forbids it."""
        refusals = order_problems(order)
        if self.activity in _ACTIVE:
            refusals.append("the press already holds a job")
        elif self._stroke.phase is not PressPhase.IDLE:
            refusals.append("the ram is not free yet")
        if refusals:
            return refusals
        recipe = PressRecipe.of(order)
        refusals = self._start_permissives(recipe)
        if refusals:
            return refusals
        self._random = Random(f"{self._seed}:{order.job_id}")
        self._recipe = recipe
        self._pellet = self._shelf.take(recipe)
        self._latched.clear()
        self._hold_reason = ""
        self._stroke = Stroke()
        self._ending = Activity.COMPLETED
        self.activity = Activity.RUNNING
        self._due_s = 0.0
        self._ram_strokes += 1
        self._die_strokes += 1
        self._enter(PressPhase.PRELOAD)
        return []

    def _start_permissives(self, recipe: PressRecipe) -> list[str]:
        refusals = []
        die_id, diameter_mm = self._die
        if recipe.die_id != die_id or abs(recipe.die_diameter_mm - diameter_mm) > 0.01:
            self._latched["die_mismatch"] = None
            refusals.append(
                f"the press holds die {die_id} of {diameter_mm:g} mm, the job names {recipe.die_id} "
                f"of {recipe.die_diameter_mm:g} mm"
            )
        if not self._guard_closed:
            refusals.append("the guard is open")
        if self._gas_locked:
            refusals.append(f"the glovebox is above {GLOVEBOX_LIMIT_PPM:g} ppm of oxygen or water")
        if self._shelf.broken(recipe.pellet_serial):
            refusals.append(f"pellet {recipe.pellet_serial} is broken")
        return refusals

    def pause(self) -> bool:
        """Suspend with the ram unloaded; not while it unloads anyway."""
        if self.activity is not Activity.RUNNING or self._stroke.phase is PressPhase.UNLOAD:
            return False
        self._interrupt(Activity.SUSPENDED, "paused by request")
        return True

    def resume(self) -> bool:
        """Load again and finish the dwell; False where the fault still stands or the pellet is broken."""
        if self.activity not in (Activity.HELD, Activity.SUSPENDED):
            return False
        if not self._guard_closed or self._stroke.fractured or self._gas_locked or self._ram.gain != 1.0:
            return False
        self._latched.clear()
        self._hold_reason = ""
        self.activity = Activity.RUNNING
        self._enter(PressPhase.UNLOAD if self._stroke.phase is PressPhase.UNLOAD else PressPhase.PRELOAD)
        return True

    def stop(self) -> bool:
        """End in order: the job is STOPPED when the ram is free."""
        if self.activity not in _ACTIVE or self._ending is Activity.STOPPED:
            return False
        if self._stroke.phase is not PressPhase.UNLOAD:
            self._ending = Activity.STOPPED
        self.activity = Activity.RUNNING
        self._hold_reason = ""
        self._enter(PressPhase.UNLOAD)
        return True

    def abort(self) -> None:
        """Unload the ram at once."""
        if self.activity not in _ACTIVE:
            return
        self._ram.release()
        self._ending = self.activity = Activity.ABORTED
        self._hold_reason = ""

    def _interrupt(self, activity: Activity, reason: str) -> None:
        if self._stroke.phase in (PressPhase.RAMP, PressPhase.DWELL):
            self._stroke.interruptions += 1
        self._ram.release()
        self.activity = activity
        self._hold_reason = reason

    # -- time -----------------------------------------------------------------------------------------------------

    def advance(self, dt_s: float) -> None:
        """Integrate over `dt_s`; less than one step may be left for the next call."""
        self._due_s += dt_s
        while True:
            free = self._stroke.phase is PressPhase.IDLE and self._ram.force_kn == 0.0
            parked = self.activity in (Activity.HELD, Activity.SUSPENDED) and self._ram.force_kn == 0.0
            step_s = min(IDLE_STEP_S, max(STROKE_STEP_S, self._due_s)) if free or parked else STROKE_STEP_S
            if self._due_s < step_s - 1e-9:
                return
            self._due_s -= step_s
            self._step(step_s)

    def _step(self, dt_s: float) -> None:
        recipe, ram = self._recipe, self._ram
        self._glovebox.step(dt_s, self._random)
        if self._crack_pending and self._stroke.phase in (PressPhase.RAMP, PressPhase.DWELL) and ram.force_kn > 2.0:
            ram.crack(self._crack_pending)
            self._crack_pending = 0.0
            if self._pellet is not None:
                self._pellet.fractured = True
        filled = None if self._empty_die else self._pellet
        ram.step(
            dt_s, filled, recipe.added_thickness_mm if recipe else 0.0, self._die[1], self._physics, self._random
        )
        if recipe is None or self._stroke.phase is PressPhase.IDLE:
            return
        self._stroke.peak_kn = max(self._stroke.peak_kn, ram.reading_kn)
        if self.activity is Activity.RUNNING:
            self._interlock(recipe, dt_s)
        if self.activity is Activity.RUNNING:
            self._run(recipe, dt_s)
        elif self.activity is Activity.ABORTED and ram.force_kn == 0.0:
            self._rest()
        self._stroke.recent_kn = [self._stroke.recent_kn[-1], ram.reading_kn]

    def _interlock(self, recipe: PressRecipe, dt_s: float) -> None:
        """The press's own safety, looked at in every step of 50 ms."""
        reading = self._ram.reading_kn
        if reading > min(FORCE_LIMIT_KN, OVER_FORCE * recipe.force_kn + 0.2):
            self._trip("over_force")
        elif not self._guard_closed and self._stroke.phase is PressPhase.UNLOAD:
            self._ram.release()
        elif not self._guard_closed:
            self._hold("guard_open")
        elif self._stroke.phase in (PressPhase.RAMP, PressPhase.DWELL):
            if reading < (1.0 - FRACTURE_DROP) * self._stroke.recent_kn[0] and reading > 0.2:
                self._stroke.fractured = True
                self._hold("fracture")
            elif self._stroke.phase is PressPhase.DWELL:
                off = abs(reading - recipe.force_kn) > DEVIATION * recipe.force_kn
                self._stroke.off_s = self._stroke.off_s + dt_s if off else 0.0
                if self._stroke.off_s >= DEVIATION_S:
                    self._hold("force_deviation")

    def _trip(self, alarm: str) -> None:
        self._latched[alarm] = None
        self.abort()

    def _hold(self, alarm: str) -> None:
        if alarm != "guard_open":  # stands and goes with the guard itself
            self._latched[alarm] = None
        message = next(definition.message for definition in PRESS.alarms if definition.name == alarm)
        self._interrupt(Activity.HELD, message)

    def _enter(self, phase: PressPhase) -> None:
        recipe, ram = self._held_recipe(), self._ram
        self._stroke.phase = phase
        self._stroke.elapsed_s = 0.0
        self._stroke.off_s = 0.0
        match phase:
            case PressPhase.PRELOAD:
                self._stroke.recent_kn = [0.0, 0.0]
                ram.move(recipe.preload_kn, recipe.ramp_kn_per_s)
            case PressPhase.RAMP:
                ram.move(recipe.force_kn, recipe.ramp_kn_per_s)
            case PressPhase.UNLOAD:
                ram.move(0.0, recipe.unload_kn_per_s)
            case _:
                pass

    def _held_recipe(self) -> PressRecipe:
        if self._recipe is None:
            raise LookupError("the press has no job")
        return self._recipe

    def _run(self, recipe: PressRecipe, dt_s: float) -> None:
        ram = self._ram
        self._stroke.elapsed_s += dt_s
        match self._stroke.phase:
            case PressPhase.PRELOAD:
                if self._stroke.elapsed_s >= recipe.preload_kn / recipe.ramp_kn_per_s + recipe.preload_s:
                    self._enter(PressPhase.RAMP)
            case PressPhase.RAMP:
                self._run_ramp(recipe)
            case PressPhase.DWELL:
                self._stroke.dwell_s += dt_s
                self._stroke.dwell_kn_s += ram.reading_kn * dt_s
                if self._stroke.dwell_s >= recipe.dwell_s - 1e-6:
                    self._enter(PressPhase.UNLOAD)
            case PressPhase.UNLOAD:
                if ram.setpoint_kn == 0.0 and ram.force_kn < 0.02:
                    ram.release()
                    self._stroke.stack_mm = ram.stack_mm
                    self.activity = self._ending
                    self._rest()
            case PressPhase.IDLE:
                pass

    def _run_ramp(self, recipe: PressRecipe) -> None:
        ram = self._ram
        there = ram.setpoint_kn == ram.goal_kn
        if there and abs(ram.reading_kn - recipe.force_kn) <= AT_FORCE * recipe.force_kn:
            low, high = STACK_WINDOW
            solid_mm = self._solid_mm(recipe)
            pellet_mm = ram.stack_mm - recipe.added_thickness_mm
            if low * solid_mm <= pellet_mm <= high * solid_mm:
                self._enter(PressPhase.DWELL)
            else:
                self._trip("stroke_window")
        elif there and self._stroke.elapsed_s > recipe.force_kn / recipe.ramp_kn_per_s + RAMP_TIMEOUT_S:
            self._hold("force_deviation")

    def _solid_mm(self, recipe: PressRecipe) -> float:
        area = die_area_mm2(recipe.die_diameter_mm)
        return loose_thickness_mm(recipe.powder_mass_mg, area, recipe.theoretical_density_g_per_cm3)

    def _rest(self) -> None:
        self._stroke.phase = PressPhase.IDLE
        self._stroke.elapsed_s = 0.0

    # -- what it shows --------------------------------------------------------------------------------------------

    @property
    def _gas_locked(self) -> bool:
        return max(self._glovebox.o2_ppm, self._glovebox.h2o_ppm) > GLOVEBOX_LIMIT_PPM

    def sample(self) -> Mapping[str, TagValue]:
        """The present value of each tag by name."""
        ram, (die_id, diameter_mm) = self._ram, self._die
        readings: dict[str, TagValue] = {
            "interlock_ok": self._guard_closed and not self._gas_locked,
            "machinery_state": 2 if self._stroke.phase is PressPhase.IDLE else 3,
            "force_kn": ram.reading_kn,
            "force_setpoint_kn": ram.setpoint_kn,
            "die_pressure_mpa": pressure_mpa(ram.reading_kn, diameter_mm),
            "ram_position_mm": ram.position_mm,
            "stack_thickness_mm": ram.stack_mm,
            "glovebox_o2_ppm": self._glovebox.o2_ppm,
            "glovebox_h2o_ppm": self._glovebox.h2o_ppm,
            "phase_number": int(self._stroke.phase),
            "phase_name": self._stroke.phase.name,
            "phase_remaining_s": self._stroke.remaining_s(self._recipe, self._stroke.phase),
            "run_remaining_s": self._stroke.run_remaining_s(self._recipe),
            "hold_reason": self._hold_reason,
            "guard_closed": self._guard_closed,
            "die_id": die_id,
            "die_diameter_mm": diameter_mm,
            "die_stroke_count": self._die_strokes,
            "ram_stroke_count": self._ram_strokes,
        }
        return _DISPLAYS.shown(readings)

    def alarms(self) -> Mapping[str, bool]:
        """Each alarm by name; `lost_mes` is the server's and False here."""
        standing = set(self._latched)
        if not self._guard_closed:
            standing.add("guard_open")
        if self._gas_locked:
            standing.add("glovebox_excursion")
        return {alarm.name: alarm.name in standing for alarm in PRESS.alarms}

    def actuals(self) -> Sequence[Parameter]:
        """Results of the stroke so far, by load cell and ram position; empty before the first job."""
        if self._recipe is None:
            return ()
        return self._stroke.actuals(self._recipe, self._ram.stack_mm)

    # -- faults and restarts --------------------------------------------------------------------------------------

    def inject(self, fault: str, active: bool, **settings: float) -> None:
        """Switch a fault on or off.

        Raises:
            LookupError: The plant has no such fault; the message lists those it has.
        """
        match fault:
            case "over_force":
                self._ram.runaway_kn_per_s = settings.get("kn_per_s", 40.0) if active else 0.0
            case "fracture":
                self._crack_pending = settings.get("drop", 0.15) if active else 0.0
            case "guard_open":
                self._guard_closed = not active
            case "wrong_die":
                self._die = ("DIE-12-9", settings.get("diameter_mm", 12.0)) if active else self._own_die
                if not active:
                    self._latched.pop("die_mismatch", None)
            case "empty_die":
                self._empty_die = active
            case "force_loss":
                self._ram.gain = settings.get("gain", 0.92) if active else 1.0
            case "glovebox_excursion":
                self._glovebox.excursion_ppm = settings.get("ppm", EXCURSION_PPM) if active else None
            case _:
                raise LookupError(f"the press plant has no fault {fault!r}; it has {', '.join(PRESS_FAULTS)}")

    def snapshot(self) -> Mapping[str, object]:
        """Stroke counts and the hidden truth by pellet serial."""
        return {
            "ram_strokes": self._ram_strokes,
            "die_strokes": self._die_strokes,
            "running": self.activity in _ACTIVE,
            "truth": self._shelf.truth(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot in a press whose ram is free; a running stroke was aborted."""
        self._ram_strokes = int(state["ram_strokes"])
        self._die_strokes = int(state["die_strokes"])
        self._shelf.restore(state["truth"])
        self.activity = Activity.ABORTED if state["running"] else Activity.IDLE


PRESS_FAULTS = (
    "empty_die",
    "force_loss",
    "fracture",
    "glovebox_excursion",
    "guard_open",
    "over_force",
    "wrong_die",
)
