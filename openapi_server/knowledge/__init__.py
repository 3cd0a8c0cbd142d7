"""What the keepers know, and how the right piece of it is found."""
