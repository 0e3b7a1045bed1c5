"""Diagrams of processes: the life of a call, and who says what to whom."""

from __future__ import annotations

from research.pages.pictures.svg import Canvas

_ACTORS = ("Venue", "Endpoint", "Leader", "Delivery")
_MESSAGES: tuple[str | tuple[int, int, str], ...] = (
    "the market or an account moves",
    (0, 1, "POST /v1/market/bars, /v1/accounts/updates"),
    (1, 2, "ledger: market, accounts"),
    (2, 2, "requirement, state, deadlines"),
    (2, 2, "one transaction: event, call, outbox"),
    (3, 0, "webhook: call opened, with its deadline"),
    (0, 1, "POST /v1/calls/{id}/ack"),
    "either the client pays",
    (0, 1, "POST /v1/accounts/updates: deposit"),
    (3, 0, "webhook: call partly_met, met"),
    "or the client disputes",
    (0, 1, "POST /v1/calls/{id}/dispute"),
    (1, 2, "command"),
    (2, 1, "control record"),
    (3, 0, "webhook: call disputed"),
    "or the deadline passes",
    (3, 0, "webhook: call deadline_missed"),
    (3, 0, "webhook: instructions cancel_orders, reduce_only"),
    (3, 0, "webhook: call grace_ended, instruction close"),
    (0, 1, "POST /v1/instructions/{id}/ack: filled"),
    (0, 1, "POST /v1/accounts/updates: fills"),
    (3, 0, "webhook: call reinstated, closed or bad_debt"),
)


def enforcement_sequence() -> str:
    """The messages of a margin call, from its detection to its ends."""
    step, top = 27, 84
    height = top + step * len(_MESSAGES) + 20
    canvas = Canvas(900, height, "Sequence of a margin call")
    columns = [80, 390, 610, 815]
    for x, name in zip(columns, _ACTORS, strict=True):
        canvas.line([(x, 60), (x, height - 14)], "thin")
        canvas.box((x - 60, 20), (120, 38), [name])
    for i, message in enumerate(_MESSAGES):
        y = top + step * i
        if isinstance(message, str):
            canvas.box((20, y - 12), (860, 22), [message], "rule", heading=False)
            continue
        start, end, text = message
        a, b = columns[start], columns[end]
        if a == b:
            canvas.dot((a, y))
            canvas.text((a - 10, y + 5), text, "end", small=True)
        else:
            canvas.arrow([(a, y + 6), (b, y + 6)])
            canvas.text(((a + b) / 2, y), text, small=True)
    return canvas.svg()


def call_life() -> str:
    """The states of an account with a call, as the engine names them."""
    canvas = Canvas(900, 320, "Life of a margin call")
    canvas.box((20, 20), (150, 58), ["healthy", "nothing is due"], "record")
    canvas.box((20, 121), (150, 58), ["warning", "close to a call"])
    canvas.box((240, 121), (150, 58), ["called", "amount and deadline"], "rule")
    canvas.box((240, 20), (150, 58), ["partly_met", "less is outstanding"], "rule")
    canvas.box((240, 222), (150, 58), ["disputed", "the clock stops"])
    canvas.box((460, 20), (160, 58), ["met", "deposit, trade, market"], "record")
    canvas.box((460, 121), (160, 58), ["reduce_only", "a deadline was missed"], "bad")
    canvas.box((700, 121), (170, 58), ["liquidating", "steps with a price limit"], "bad")
    canvas.box((700, 20), (170, 58), ["taken_over", "by the backstop"], "bad")
    canvas.box((460, 222), (160, 58), ["closed", "no positions are left"])
    canvas.box((700, 222), (170, 58), ["bad_debt", "equity is below 0"], "bad")
    canvas.arrow([(95, 78), (95, 121)])
    canvas.arrow([(170, 150), (240, 150)])
    canvas.arrow([(315, 121), (315, 78)])
    canvas.arrow([(315, 179), (315, 222)])
    canvas.arrow([(390, 49), (460, 49)])
    canvas.arrow([(390, 150), (460, 150)])
    canvas.arrow([(390, 138), (425, 138), (425, 62), (460, 62)])
    canvas.arrow([(620, 150), (700, 150)])
    canvas.arrow([(785, 121), (785, 78)])
    canvas.arrow([(785, 179), (785, 222)])
    canvas.arrow([(745, 179), (745, 200), (540, 200), (540, 222)])
    canvas.arrow([(540, 20), (540, 8), (95, 8), (95, 20)], dashed=True)
    return canvas.svg()
