"""The provider that needs no language model: it replies with what the keepers wrote, so it cannot make anything up."""
