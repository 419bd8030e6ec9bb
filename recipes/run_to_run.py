"""Run-to-run control of film thickness: a predictor–corrector EWMA in log rate, as pure functions.

The deposition time is corrected so that the next film has the wanted thickness although the target wears and every
target is a little different. Worked in logarithms, `u = ln(t·R)` for the shutter time t and the rate R of the model,
and `y = ln(thickness)`, the gain is exactly 1 and all is relative: `y = u + a`, with `a` the log of true over model
rate. Each context (tool, target, recipe family, material) learns for itself. Nothing is stored here; every move
carries its inputs, so that it can be.

Source: Butler and Stefani, predictor–corrector control of gate etch (IEEE Trans. Semicond. Manuf. 7, 1994).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from recipes.errors import CorrectionRefused
from traceability.errors import Finding


@dataclass(frozen=True, slots=True)
class Context:
    """Whose runs teach one another."""

    tool: str
    target_serial: str
    family: str
    material: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How the controller behaves; versioned with the moves that it makes.

    Attributes:
        level_gain: λ₁, weight of the newest rate.
        drift_gain: λ₂, weight of the newest drift.
        dead_band: Relative change of the time that is not worth a move.
        run_clamp: Largest relative change of the time from one run to the next.
        total_clamp: Largest relative distance of the time from the model's.
        noise: Relative 1σ of one measured run around its prediction.
        target_spread: Relative 1σ between targets.
        outlier_sigmas: An error beyond this many σ is not learned from.
        prior: Mean log rate of new targets over the model's.
    """

    level_gain: float = 0.3
    drift_gain: float = 0.03
    dead_band: float = 0.005
    run_clamp: float = 0.05
    total_clamp: float = 0.25
    noise: float = 0.0112
    target_spread: float = 0.04
    outlier_sigmas: float = 4.0
    prior: float = 0.0


class Lesson(StrEnum):
    """What was made of one measured run."""

    LEARNED = "learned"
    OUTLIER = "outlier"
    HELD = "held"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class State:
    """What a context has learned.

    Attributes:
        context: Whose.
        level: a, log of true over model rate.
        drift: D, how far the level lags behind the newest run.
        runs: Measured runs learned from on this target.
        outliers_in_a_row: Measured runs in a row beyond the outlier limit.
        last_log_time: `ln(t/t_model)` of the last move; None before the first.
        held: No product runs until a person releases the context.
    """

    context: Context
    level: float
    drift: float = 0.0
    runs: int = 0
    outliers_in_a_row: int = 0
    last_log_time: float | None = None
    held: bool = False

    @property
    def needs_seasoning(self) -> bool:
        """The target is unproved: one seasoning and one witness run come before product."""
        return self.runs == 0


@dataclass(frozen=True, slots=True)
class Move:
    """One correction, with all that it was computed from.

    Attributes:
        before: State of the context.
        settings: In force.
        thickness_nm: Wanted.
        model_rate_nm_per_min: Of the rate model at this recipe and target energy.
        model_time_s: Shutter time by the model alone.
        wanted_time_s: By the law, before dead-band and clamps.
        time_s: To be used.
        clamped: A clamp has cut the correction; going beyond it takes a person (`approve_beyond_clamp`).
        reason: In words.
        approved_by: Who let it go beyond the clamp; "" where nobody had to.
    """

    before: State
    settings: Settings
    thickness_nm: float
    model_rate_nm_per_min: float
    model_time_s: float
    wanted_time_s: float
    time_s: float
    clamped: bool
    reason: str
    approved_by: str = ""

    @property
    def correction(self) -> float:
        """Relative correction of the model's time; 0.02 is two percent longer."""
        return self.time_s / self.model_time_s - 1.0

    @property
    def after(self) -> State:
        """State of the context once the run has been made with this time."""
        return replace(self.before, last_log_time=math.log(self.time_s / self.model_time_s))


@dataclass(frozen=True, slots=True)
class Update:
    """What one measured run taught.

    Attributes:
        before, after: State of the context.
        thickness_nm: Measured.
        time_s, model_rate_nm_per_min: Of the run.
        error: Relative one-step prediction error (log); what a control chart shows. 0 for an aborted run.
        lesson: What was made of it.
    """

    before: State
    after: State
    thickness_nm: float
    time_s: float
    model_rate_nm_per_min: float
    error: float
    lesson: Lesson


def begin(context: Context, settings: Settings | None = None) -> State:
    """The state of a context that nothing is known of: a new target starts at the mean of new targets."""
    return State(context, (settings or Settings()).prior)


def decide(state: State, thickness_nm: float, model_rate_nm_per_min: float, settings: Settings | None = None) -> Move:
    """The shutter time for the next run.

    Args:
        state: What the context has learned.
        thickness_nm: Wanted thickness.
        model_rate_nm_per_min: Rate by the model at the recipe's setpoints and the target's energy.
        settings: Defaults where None.

    Raises:
        CorrectionRefused: The context is held.
        ValueError: Thickness or rate is not positive.
    """
    if thickness_nm <= 0 or model_rate_nm_per_min <= 0:
        raise ValueError(f"no time for {thickness_nm} nm at {model_rate_nm_per_min} nm/min")
    if state.held:
        raise CorrectionRefused(
            f"Run-to-run control of {state.context.family} on {state.context.tool} is held.",
            [
                Finding(
                    "context_held",
                    f"Two films in a row were far from predicted on target {state.context.target_serial}.",
                    "Let an engineer or QA inspect the target for a crack and release it, or change the target.",
                    state.context.target_serial,
                )
            ],
        )
    rules = settings or Settings()
    wanted = -(state.level + state.drift)
    last = state.last_log_time
    chosen, reason = wanted, "by the law"
    if last is not None and abs(wanted - last) < rules.dead_band:
        chosen, reason = last, "within the dead-band of the last time"
    clamped = False
    total = math.log1p(rules.total_clamp)
    bounds = [(-total, total, "total")]
    # The first runs of a target jump to its own rate, and a change of recipe does not show in the log time.
    if last is not None and state.runs > 1:
        step = math.log1p(rules.run_clamp)
        bounds.insert(0, (last - step, last + step, "single-run"))
    for low, high, name in bounds:
        inside = min(max(chosen, low), high)
        if inside != chosen:
            chosen, clamped, reason = inside, True, f"cut by the {name} clamp"
    model_time_s = 60.0 * thickness_nm / model_rate_nm_per_min
    return Move(
        before=state,
        settings=rules,
        thickness_nm=thickness_nm,
        model_rate_nm_per_min=model_rate_nm_per_min,
        model_time_s=model_time_s,
        wanted_time_s=model_time_s * math.exp(wanted),
        time_s=model_time_s * math.exp(chosen),
        clamped=clamped,
        reason=reason,
    )


def approve_beyond_clamp(move: Move, approved_by: str) -> Move:
    """The same move without its clamp, on a person's word.

    Raises:
        ValueError: No clamp has cut the move, or nobody is named.
    """
    if not move.clamped or not approved_by:
        raise ValueError("only a clamped move needs approval, and a person gives it")
    return replace(
        move, time_s=move.wanted_time_s, clamped=False, reason="by the law, beyond the clamp", approved_by=approved_by
    )


def learn(
    state: State,
    thickness_nm: float,
    time_s: float,
    model_rate_nm_per_min: float,
    settings: Settings | None = None,
    *,
    aborted: bool = False,
) -> Update:
    """What a measured run teaches its context.

    Args:
        state: Before.
        thickness_nm: Measured on the witness.
        time_s: Shutter time of the run.
        model_rate_nm_per_min: Rate by the model when the run was made.
        settings: Defaults where None.
        aborted: The run did not end by itself; nothing is learned.

    Raises:
        ValueError: A number is not positive.
    """
    if min(thickness_nm, time_s, model_rate_nm_per_min) <= 0:
        raise ValueError("thickness, time and rate must be positive")
    rules = settings or Settings()

    def update(after: State, error: float, lesson: Lesson) -> Update:
        return Update(state, after, thickness_nm, time_s, model_rate_nm_per_min, error, lesson)

    if aborted:
        return update(state, 0.0, Lesson.ABORTED)
    seen = math.log(thickness_nm / (time_s / 60.0 * model_rate_nm_per_min))
    error = seen - state.level - state.drift
    spread = rules.noise if state.runs else math.hypot(rules.noise, rules.target_spread)
    if abs(error) > rules.outlier_sigmas * spread:
        outliers = state.outliers_in_a_row + 1
        held = state.held or outliers > 1
        after = replace(state, outliers_in_a_row=outliers, held=held)
        return update(after, error, Lesson.HELD if held else Lesson.OUTLIER)
    # λ_k = max(λ, 1/(n+1)): the first run of a target sets the level, the next ones average. The first error is the
    # target's own step and says nothing of drift.
    gain = max(rules.level_gain, 1.0 / (state.runs + 1))
    innovation = seen - state.level
    level = state.level + gain * innovation
    drift = rules.drift_gain * innovation + (1 - rules.drift_gain) * state.drift if state.runs else state.drift
    after = replace(state, level=level, drift=drift, runs=state.runs + 1, outliers_in_a_row=0)
    return update(after, error, Lesson.LEARNED)


def release(state: State) -> State:
    """The context after a person has looked at the target and found it sound."""
    return replace(state, held=False, outliers_in_a_row=0)
