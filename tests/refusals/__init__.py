"""Every input that is refused, by room, with what a good message says."""
