"""Life cycle of a margin call: states, rules and transitions; pure, and with no clock of its own.

``states`` holds what is known of N accounts, ``advance`` moves them with new figures, and every
change comes back as a transition with its reason.
"""
