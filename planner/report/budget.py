"""The choice of offers as blocks: what to buy, when, what it costs, how sure; then everything that it rests on."""

from __future__ import annotations

import datetime
import shlex

from planner.analysis.budget.amounts import amount_text
from planner.analysis.budget.budget import Booking, BudgetAnswer
from planner.analysis.budget.budget_file import windows
from planner.analysis.budget.front import CostFront
from planner.analysis.budget.options import JobOption
from planner.analysis.budget.sensitivity import Sensitivity
from planner.analysis.whatif import compact
from planner.inputs.examples import typed_beside
from planner.report.blocks import Bar, Block, Bullets, Command, Grid, Heading, Headline, Plot, Text, Timeline
from planner.report.budget_assumptions import assumptions, of_offer
from planner.report.screen import Screen, screen_blocks
from planner.report.short import short_layout, short_wishes
from planner.schema.budget import Job
from planner.search.plan import degrees
from planner.units import number, percent, span


def budget_blocks(answer: BudgetAnswer) -> list[Block]:
    """One page first, then schedule, front, sensitivity, every option with its verdict, and the assumptions."""
    blocks: list[Block] = [_headline(answer)]
    if answer.bookings:
        blocks += [Heading("What to buy"), _choice(answer), *_shared(answer), _totals(answer)]
        blocks += [Heading("Schedule"), schedule_figure(answer), *_front(answer), *_sensitivity(answer)]
    else:
        if answer.conflict:
            blocks += [Heading("What contradicts what"), Bullets(answer.conflict)]
        blocks += [Heading("What would do (each solved again)"), Bullets(answer.remedies)]
    for job in answer.budget.jobs:
        blocks += [Heading(f"{job.name}: {amount_text(job)} within {job.deadline_days:g} days"), *_options(answer, job)]
    return [*blocks, Heading("Assumptions"), Bullets(assumptions(answer)), _next(answer)]


def budget_screen(answer: BudgetAnswer) -> list[Block]:
    """What to buy, when, what it costs and how sure, on one screen."""
    if not answer.bookings:
        against = (("contradict", ", ".join(answer.conflict)),) if answer.conflict else ()
        return screen_blocks(Screen(_headline(answer), rows=against, notes=answer.remedies, command=_next(answer)))
    rows = []
    for booking in answer.bookings:
        option, times = booking.option, len(booking.starts)
        rows.append(
            (
                option.job + (f" ({times} times)" if times > 1 else ""),
                f"{option.nodes} x {option.terms_of_offer.name}",
                f"{number(booking.start_hour / 24, 1)} to {number(booking.finish_hour / 24, 1)}",
                _share(booking.sure),
                number(option.usd * times, 0),
            )
        )
    held = [
        (terms.name, f"{_nodes(each.nodes)} {'bought' if terms.offer.purchase is not None else 'for a term'}")
        for terms, each in zip(answer.terms, answer.rented, strict=True)
        if each is not None
    ]
    for (name, what), each in zip(held, [each for each in answer.rented if each is not None], strict=True):
        rows.append((what, name, f"{number(each.start / 24, 1)} on", "", number(each.cents / 100, 0)))
    columns = ("job", "machines", "days booked", "in time", "USD")
    table = Grid(columns, tuple(rows), left=frozenset({0, 1}))
    doubts = [text for place, terms in enumerate(answer.terms) for text in of_offer(answer, place, terms)]
    changed = [
        row
        for row in answer.sensitivities
        if row.late or row.picks is not None or row.cents is None or _over(answer, row)
    ]
    notes = [f"{row.name}: {_consequence(answer, row)}" for row in changed] + doubts
    knee = answer.front.knee if answer.front is not None else None
    after = []
    if knee is not None and answer.front is not None:
        point = answer.front.points[knee]
        after.append(("knee", f"{number(point.cents / 100, 0)} USD for an end on day {number(point.hours / 24, 1)}"))
    command = Command(_next(answer).text, f"{_next(answer).purpose} (-v: schedule, front, all options, assumptions)")
    return screen_blocks(
        Screen(_headline(answer), table=table, needed=0, notes=tuple(notes), after=tuple(after), command=command)
    )


def _consequence(answer: BudgetAnswer, row: Sensitivity) -> str:
    late = ", ".join(answer.budget.jobs[job].name for job in row.late)
    if row.cents is None:
        return "no choice keeps every limit"
    said = [f"late: {late}"] if late else []
    said += ["over max_usd"] if _over(answer, row) else []
    return ", ".join(said) or "another choice is the best"


def _over(answer: BudgetAnswer, row: Sensitivity) -> bool:
    most = answer.budget.max_usd
    return most is not None and row.cents is not None and row.cents > most * 100


def _headline(answer: BudgetAnswer) -> Headline:
    budget = answer.budget
    if not answer.bookings:
        return Headline(f"{budget.name}: no choice of the listed offers keeps every limit (proved)", good=False)
    finish = max(booking.finish_hour for booking in answer.bookings)
    what = "cheapest" if budget.objective == "cheapest" else "earliest"
    proof = f"proved {what} of the listed options"
    if answer.status != "optimal":
        proof = "best found, not proved"
        if answer.picked.bound is not None and budget.objective == "cheapest":
            proof += f" (nothing costs less than {number(answer.picked.bound / 100, 0)} USD)"
    sure = min(booking.sure for booking in answer.bookings)
    text = f"{budget.name}: {number(answer.usd, 0)} USD (at most {number(answer.most_usd, 0)} as booked), done by day "
    text += f"{number(finish / 24, 1)}; every deadline holds with {_share(sure)} or more; {proof}"
    return Headline(text, good=sure >= budget.confidence - 0.005)


def _nodes(count: int) -> str:
    return f"{count} node{'s' if count != 1 else ''}"


def _share(share: float) -> str:
    """A chance that is known from draws: whole percents, and never a certainty."""
    return "99 %" if share > 0.99 else f"{share * 100:.0f} %"


def _day(answer: BudgetAnswer, hour: int) -> str:
    """Day of the schedule, with its date where the file states when it starts."""
    text = f"day {number(hour / 24, 1)}"
    if answer.budget.starts_on is None:
        return text
    day = datetime.date.fromisoformat(answer.budget.starts_on) + datetime.timedelta(hours=hour)
    return f"{text} ({day.isoformat()})"


def _choice(answer: BudgetAnswer) -> Block:
    rows: list[tuple[str, str]] = []
    last: list[int] = []
    for booking in answer.bookings:
        rows += _booking(answer, booking)
        last.append(len(rows) - 1)
    return Grid((), tuple(rows), left=frozenset({0, 1}), rules=frozenset(last[:-1]))


def _booking(answer: BudgetAnswer, booking: Booking) -> list[tuple[str, str]]:
    option, plan = booking.option, booking.option.plan
    assert plan is not None
    job = next(j for j in answer.budget.jobs if j.name == option.job)
    times = len(booking.starts)
    deadline = windows(job)[-1][1]
    each = f"{times} times, first " if times > 1 else ""
    usd = answer.usd_each(booking)
    cost = f"{number(usd * times, 2)} USD, {number(usd / option.tokens * 1e6, 4)} USD a million tokens"
    cost += f", {number(usd, 2)} USD each time" if times > 1 else ""
    if option.terms == "purchase":
        cost += f" ({number(option.usd * times, 2)} USD of energy, its share by node-hours of the machines below)"
    elif option.held_machines:
        cost += " (its share by node-hours of the term below)"
    rows = [
        (f"{job.name}: offer", _offer(option)),
        ("  machines", f"{_nodes(option.nodes)}, {option.num_gpus} x {plan.problem.gpu.name}{_rate(option)}"),
        ("  layout", short_layout(plan)),
        ("  throughput", f"{number(plan.tokens_per_second, 0)} tokens/s, {number(plan.headroom_gib, 1)} GiB free"),
        (
            "  when",
            f"{each}{_day(answer, booking.start_hour)} to {_day(answer, booking.start_hour + option.whole_hours)}: "
            f"{span(option.hours or 0)} expected, {span(option.whole_hours)} booked; "
            f"{span(deadline - booking.finish_hour)} before the deadline",
        ),
        ("  how sure", f"in time with {_share(booking.sure)}; {percent(answer.budget.confidence, 0)} asked"),
        ("  cost", cost),
    ]
    if option.energy_kwh is not None:
        rows.append(("  energy", _energy(option, times)))
    if option.price.notes is not None:
        rows.append(("  note", option.price.notes))
    if plan.wish.given_up:
        rows.append(("  gives up", short_wishes(plan)))
    return rows


def _offer(option: JobOption) -> str:
    """Whose machines, and where: the file's region, else that of the price."""
    offer, price = option.terms_of_offer.offer, option.price
    region = offer.region or (price.region if offer.purchase is None and offer.usd_per_gpu_hour is None else None)
    where = f", {region}" if region else ""
    return f"{price.provider} {price.instance}{where} ({option.terms_of_offer.name})"


def _rate(option: JobOption) -> str:
    usd = option.terms_of_offer.usd_per_gpu_hour
    if usd is None:
        return " (bought)"
    return f", {number(usd, 4)} USD a GPU-hour ({option.terms.replace('_', ' ')})"


def _energy(option: JobOption, times: int) -> str:
    kwh = (option.energy_kwh or 0.0) * times
    text = _kwh(kwh)
    if not option.terms_of_offer.power_is_stated:
        text += " of GPUs at their power limit alone"
    grams = option.terms_of_offer.offer.grams_co2_per_kwh
    return text + (f", {_co2(kwh * grams)}" if grams is not None else "")


def _kwh(kwh: float) -> str:
    return f"{number(kwh, 0)} kWh" if kwh < 10_000 else f"{number(kwh / 1000, 1)} MWh"


def _co2(grams: float) -> str:
    return f"{number(grams / 1000, 0)} kg CO2" if grams < 1e7 else f"{number(grams / 1e6, 1)} t CO2"


def _shared(answer: BudgetAnswer) -> list[Block]:
    """Terms and bought machines."""
    rows: list[tuple[str, str]] = []
    for terms, each in zip(answer.terms, answer.rented, strict=True):
        if each is None:
            continue
        if terms.offer.purchase is not None:
            bought = terms.offer.purchase
            text = f"{_nodes(each.nodes)} bought: {number(bought.usd_per_node * each.nodes, 0)} USD to pay, "
            text += f"{number(each.cents / 100, 2)} USD charged to this period (straight-line over "
            text += f"{bought.lifetime_years:g} years, {percent(bought.resale_share, 0)} resale, hosting)"
        else:
            text = f"{_nodes(each.nodes)} from {_day(answer, each.start)} for {number(each.hours / 24, 1)} days: "
            text += f"{number(each.cents / 100, 2)} USD"
        rows.append((terms.name, text))
    return [Grid((), tuple(rows), left=frozenset({0, 1}))] if rows else []


def _totals(answer: BudgetAnswer) -> Block:
    text = (
        f"In all {number(answer.usd, 2)} USD expected, {number(answer.most_usd, 2)} USD if all booked hours are used."
    )
    tokens = sum(b.option.tokens * len(b.starts) for b in answer.bookings)
    text += f" {number(answer.usd / tokens * 1e6, 4)} USD a million tokens over all jobs."
    return Text(text + _all_energy(answer))


def _all_energy(answer: BudgetAnswer) -> str:
    """Energy of all runs, and its carbon where every chosen offer states one; nothing where some power is not known."""
    options = [booking.option for booking in answer.bookings]
    each = [(b.option.energy_kwh or 0.0) * len(b.starts) for b in answer.bookings]
    if len(options) < 2 or any(option.energy_kwh is None for option in options):
        return ""
    text = f" {_kwh(sum(each))}"
    stated = [option.terms_of_offer.power_is_stated for option in options]
    if not all(stated):
        text += ", " + ("in part " if any(stated) else "") + "of GPUs at their power limit alone"
    grams = [option.terms_of_offer.offer.grams_co2_per_kwh for option in options]
    known = [kwh * each_grams for kwh, each_grams in zip(each, grams, strict=True) if each_grams is not None]
    return text + (f", {_co2(sum(known))}" if len(known) == len(each) else "") + "."


def schedule_figure(answer: BudgetAnswer) -> Timeline:
    """Jobs on days: expected, then what is booked beyond it, and their deadlines."""
    lines, marks = [], []
    for booking in answer.bookings:
        job = next(j for j in answer.budget.jobs if j.name == booking.option.job)
        expected = (booking.option.hours or 0.0) / 24
        bars = []
        for start in booking.starts:
            first, last = start / 24, (start + booking.option.whole_hours) / 24
            bars += [
                Bar(first, min(first + expected, last), "expected"),
                Bar(min(first + expected, last), last, "booked"),
            ]
        lines.append((f"{job.name} ({_nodes(booking.option.nodes)})", tuple(bars)))
        if job.repeat is None:
            marks.append((job.deadline_days, f"{job.name} due"))
    return Timeline("Jobs and their deadlines", "day", tuple(lines), tuple(marks))


def front_figure(front: CostFront) -> Plot:
    """Cost against the end of all work."""
    points = sorted(front.points, key=lambda point: point.hours)
    labels = tuple(f"{point.hours / 24:,.2f} days, {point.cents / 100:,.0f} USD" for point in points)
    pairs = tuple((point.hours / 24, point.cents / 100) for point in points)
    knee = front.points[front.knee] if front.knee is not None else None
    named = tuple((place, "knee") for place, point in enumerate(points) if point == knee)
    title = "Cost against the end of all work"
    return Plot(title, "end of all work [days]", "expected cost [USD]", pairs, labels, named)


def _front(answer: BudgetAnswer) -> list[Block]:
    front = answer.front
    if front is None:
        return [Text("The front of cost against time is left out: too many runs to solve it again for every end.")]
    if len(front.points) < 2:
        return [Text("No choice within these limits ends earlier.")] if front.whole else []
    knee, rows = front.knee, []
    for place, point in enumerate(front.points):
        picked = ", ".join(_pick(answer, job, pick) for job, pick in enumerate(point.picked.picks))
        name = "knee" if place == knee else ""
        rows.append((number(point.hours / 24, 2), number(point.cents / 100, 0), picked, name))
    strong = frozenset() if knee is None else frozenset({knee})
    grid = Grid(("done by day", "USD", "choice", ""), tuple(rows), left=frozenset({2, 3}), strong=strong)
    text = "Every row is the cheapest choice that ends no later (proved)."
    if knee is not None:
        text += " At the knee another dollar buys the most time against the two ends."
    if not front.whole:
        text += f" Cut after {len(front.points)} points: still earlier ends cost more."
    return [Heading("Cost against time"), grid, front_figure(front), Text(text)]


def _pick(answer: BudgetAnswer, job: int, place: int) -> str:
    problem = answer.problem
    assert problem is not None
    choice = problem.needs[job].choices[place]
    return f"{choice.nodes} x {answer.terms[choice.supply].name}"


def _sensitivity(answer: BudgetAnswer) -> list[Block]:
    rows = []
    for row in answer.sensitivities:
        late = ", ".join(answer.budget.jobs[job].name for job in row.late) or "none"
        moved = "the same"
        if row.picks is not None:
            moved = ", ".join(_pick(answer, job, place) for job, place in enumerate(row.picks))
        cost = "-" if row.cents is None else number(row.cents / 100, 0)
        cost += " over max_usd" if _over(answer, row) else ""
        end = "-" if row.hours is None else number(row.hours / 24, 1)
        rows.append((row.name, cost, end, late, moved))
    columns = ("if", "USD", "done by day", "late", "choice")
    text = "Rents: chosen again. Speed and lost nodes: the same choice as it would go, deadlines as they stand."
    return [Heading("Sensitivity"), Grid(columns, tuple(rows), left=frozenset({0, 3, 4})), Text(text)]


def _options(answer: BudgetAnswer, job: Job) -> list[Block]:
    options = [option for option in answer.options if option.job == job.name]
    options.sort(key=lambda o: (o.hours is None, o.cents if o.hours is not None else 0, o.price.id, o.terms, o.nodes))
    rows: list[tuple[str, ...]] = []
    chosen: set[int] = set()
    refusals: dict[str, list[str]] = {}
    for option in options:
        verdict = answer.verdict(option)
        plan, hours = option.plan, option.hours
        name = option.terms_of_offer.name
        if plan is None or hours is None:
            refusals.setdefault(verdict, []).append(f"{option.nodes} x {name}")
            continue
        if verdict == "chosen":
            chosen.add(len(rows))
        cells = (name, str(option.nodes), str(option.num_gpus), degrees(vars(plan.named)), _days(hours))
        own = number(option.usd, 0) if option.terms_of_offer.offer.minimum_days is None else ""
        held = (" + " if own else "") + ("machines" if option.terms == "purchase" else "term")
        rows.append((*cells, _days(option.whole_hours), own + (held if option.held_machines else ""), verdict))
    columns = ("offer", "nodes", "GPUs", "layout", "days", "booked", "USD", "verdict")
    blocks: list[Block] = []
    if rows:
        blocks.append(Grid(columns, tuple(rows), left=frozenset({0, 3, 7}), strong=frozenset(chosen)))
    if refusals:
        lines = tuple(f"{reason}: {', '.join(names)}" for reason, names in refusals.items())
        blocks.append(Bullets(lines))
    return blocks


def _days(hours: float) -> str:
    return number(hours / 24, 1 if hours >= 240 else 2)


def _next(answer: BudgetAnswer) -> Command:
    if not answer.bookings:
        return Command("planner catalog list prices", "more offers")
    option = answer.bookings[0].option
    job = next(j for j in answer.budget.jobs if j.name == option.job)
    path = typed_beside(answer.document.name, job.scenario)
    sets = [f"{key}={compact(value)}" for key, value in job.set.items()]
    sets += [f"cluster.node={option.price.node}", f"cluster.num_gpus={option.num_gpus}", "cluster.max_gpus=null"]
    parts = [path, *(part for text in sets for part in ("--set", text))]
    return Command("planner solve " + " ".join(map(shlex.quote, parts)), f"the layout of {job.name} in full")
