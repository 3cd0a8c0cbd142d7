"""What stands between the wire and a handler: checks in front of Connexion, and the way to the event loop behind it."""
