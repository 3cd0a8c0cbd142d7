"""The values of the server: what a turn, a session, an animal, a user are. No I/O, no framework."""
