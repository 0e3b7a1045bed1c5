"""Diagrams of the concepts: data flow, headroom, add-on, level, times of a bar."""

from __future__ import annotations

import math

from research.pages.pictures.svg import Canvas


def flow() -> str:
    """From market and accounts to a recorded decision, and from history to a model."""
    canvas = Canvas(960, 400, "Data flow: one decision above, learning below")
    canvas.box((20, 30), (150, 58), ["Market", "bars, quotes"])
    canvas.box((20, 128), (150, 58), ["Accounts", "positions, collateral"])
    canvas.box((220, 128), (170, 58), ["Rules", "margins, floor, cap"], "rule")
    canvas.box((220, 30), (170, 58), ["Features", "state, bar by bar"])
    canvas.box((440, 30), (170, 58), ["Forecast", "p in 1, 8, 24 h (ONNX)"], "model")
    canvas.box((440, 128), (170, 58), ["Add-on", "floor ≤ model ≤ cap"], "rule")
    canvas.box((660, 128), (130, 58), ["Decision", "with reasons"])
    canvas.box((830, 128), (110, 58), ["Ledger", "hash chain"], "record")
    canvas.box((660, 30), (280, 58), ["Calls and instructions", "deadlines, cures, webhooks"])
    canvas.arrow([(170, 59), (220, 59)])
    canvas.arrow([(170, 157), (220, 157)])
    canvas.arrow([(195, 59), (195, 143), (220, 143)])
    canvas.arrow([(305, 128), (305, 88)])
    canvas.arrow([(390, 59), (440, 59)])
    canvas.arrow([(390, 157), (440, 157)])
    canvas.arrow([(525, 88), (525, 128)])
    canvas.arrow([(610, 157), (660, 157)])
    canvas.arrow([(790, 157), (830, 157)])
    canvas.arrow([(725, 128), (725, 88)])
    canvas.arrow([(885, 88), (885, 128)])
    canvas.arrow([(885, 186), (885, 222), (725, 222), (725, 186)], dashed=True)
    canvas.text((805, 240), "replay, to the last bit", small=True)
    canvas.line([(20, 262), (940, 262)], "thin", dashed=True)
    canvas.text((20, 286), "learning: the same features over history", "start", small=True)
    canvas.box((20, 306), (150, 58), ["History", "bars, accounts"])
    canvas.box((220, 306), (170, 58), ["Labels", "breaches by the engine"])
    canvas.box((440, 306), (170, 58), ["Fit, calibrate", "on earlier time only"], "model")
    canvas.box((660, 306), (130, 58), ["Gates", "or no promotion"], "rule")
    canvas.box((830, 306), (110, 58), ["Bundle", "champion"], "record")
    for x in (170, 390, 610, 790):
        canvas.arrow([(x, 335), (x + (40 if x == 790 else 50), 335)])
    canvas.arrow(
        [(830, 320), (812, 320), (812, 252), (632, 252), (632, 59), (610, 59)], dashed=True
    )
    return canvas.svg()


def headroom() -> str:
    """Equity of an account over time against its margins, with headroom and the early call."""
    canvas = Canvas(860, 360, "Equity, maintenance and initial margin, headroom, and an early call")
    left, right = 60.0, 640.0
    canvas.line([(left, 30), (left, 322), (right, 322)], "thin")
    canvas.text((left - 8, 40), "money", "end", small=True)
    canvas.text((right, 342), "time", "end", small=True)
    equity = [
        (left + i * 5.8, 90 + 1.55 * i + 12 * math.sin(i / 5) + 7 * math.sin(i / 2.1))
        for i in range(101)
    ]
    canvas.line(equity, "curve")
    for y, name in (
        (150, "maintenance margin + add-on"),
        (190, "initial margin"),
        (232, "maintenance margin"),
    ):
        canvas.line([(left, y), (right, y)], "warm" if y == 150 else "line", dashed=y != 232)
        canvas.text((right + 10, y + 5), name, "start", small=True)
    canvas.text((right + 10, equity[-1][1] + 5), "equity", "start", bold=True)
    early = next(point for point in equity if point[1] > 150)
    late = next(point for point in equity if point[1] > 232)
    for point in (early, late):
        canvas.dot(point)
        canvas.line([point, (point[0], 285)], "thin", dashed=True)
    canvas.text((early[0], 302), "early call: headroom < add-on", small=True)
    canvas.text((late[0] + 30, 302), "breach: headroom < 0", small=True)
    canvas.arrow([(130, 228), (130, equity[12][1] + 6)])
    canvas.arrow([(130, equity[12][1] + 6), (130, 229)])
    canvas.text((138, 214), "headroom", "start", bold=True)
    return canvas.svg()


def add_on() -> str:
    """The add-on between floor and cap, and its dead-band, step and release over time."""
    canvas = Canvas(860, 330, "The add-on in force between floor and cap")
    left, right = 60.0, 640.0
    canvas.line([(left, 24), (left, 290), (right, 290)], "thin")
    canvas.text((right, 310), "time", "end", small=True)
    for y, name in (
        (50, "cap: a multiple of initial margin"),
        (250, "floor: what the rules demand"),
    ):
        canvas.line([(left, y), (right, y)], "line", dashed=True)
        canvas.text((right + 10, y + 5), name, "start", small=True)
    model = [
        (
            left + i * 5.8,
            max(28.0, 215 - 190 * math.exp(-(((i - 46) / 13) ** 2)) + 5 * math.sin(i / 2.2)),
        )
        for i in range(101)
    ]
    canvas.line(model, "warm", dashed=True)
    in_force = 215.0
    path = [(left, in_force)]
    for x, wanted in model:
        bounded = min(250.0, max(50.0, wanted))
        change = bounded - in_force
        if change < -16:  # a higher level, by a limited step
            in_force = max(bounded, in_force - 14)
        elif change > 16:  # a lower level, released slowly
            in_force = min(bounded, in_force + 3.2)
        path.append((x, in_force))
    canvas.line(path, "curve")
    canvas.text((right + 10, 180), "level of the model", "start", small=True)
    canvas.text((right + 10, 206), "add-on in force", "start", bold=True)
    canvas.text((200, 275), "dead-band: small changes do not count", small=True)
    canvas.text((255, 120), "step: rises", "end", small=True)
    canvas.text((255, 136), "by a limited step", "end", small=True)
    canvas.text((420, 86), "release: falls slowly", "start", small=True)
    return canvas.svg()


def level() -> str:
    """Probability of a call as a function of headroom, and the level that p* asks for."""
    canvas = Canvas(860, 330, "From the probability of a call to the level of the add-on")
    left, bottom = 90.0, 280.0
    canvas.line([(left, 24), (left, bottom), (700, bottom)], "thin")
    canvas.text((700, 300), "headroom of the account", "end", small=True)
    canvas.text((left + 6, 34), "probability of a call within 24 h", "start", small=True)
    curve = [(left + x, bottom - 240 / (1 + math.exp((x - 150) / 55))) for x in range(0, 601, 6)]
    canvas.line(curve, "curve")
    wanted = next(point for point in curve if point[1] > bottom - 24)
    canvas.line([(left, bottom - 24), (700, bottom - 24)], "warm", dashed=True)
    canvas.text((706, bottom - 20), "p*: tolerated", "start", small=True)
    canvas.dot(wanted)
    canvas.line([wanted, (wanted[0], bottom)], "line", dashed=True)
    canvas.text((wanted[0], bottom + 20), "level G", bold=True)
    account = curve[35]
    canvas.dot(account)
    canvas.text(
        (account[0] + 10, account[1] - 6),
        "this account: too likely to be called",
        "start",
        small=True,
    )
    canvas.arrow([(account[0] + 6, bottom - 10), (wanted[0] - 6, bottom - 10)])
    canvas.text((account[0] - 4, bottom - 8), "deposit, or cut", "end", small=True)
    return canvas.svg()


def two_clocks() -> str:
    """What happened when, and when it was known: a decision sees only what was known."""
    canvas = Canvas(860, 250, "Two clocks: time of an event and time of its knowledge")
    for y, name in ((70, "event time"), (170, "knowledge time")):
        canvas.text((24, y + 5), name, "start", bold=True)
        canvas.arrow([(165, y), (840, y)])
    for i, x in enumerate((180, 320, 460, 600)):
        canvas.box((x, 44), (120, 26), [f"bar {i + 1}"], "box", heading=False)
    for closing, known, name in ((300, 300, "1"), (440, 440, "2"), (580, 775, "3, posted late")):
        canvas.line([(closing, 70), (known, 164)], "thin")
        canvas.dot((known, 170))
        canvas.text((known, 194), f"bar {name}", small=True)
    canvas.line([(695, 30), (695, 215)], "warm", dashed=True)
    canvas.text((695, 236), "decision: sees bars 1 and 2", bold=True)
    return canvas.svg()
