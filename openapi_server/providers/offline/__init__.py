"""The provider that needs no language model: it replies with texts of the keepers, so it cannot make anything up."""
