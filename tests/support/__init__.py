"""What tests of several packages share: fakes, example values, server processes, a scripted model, contract checks."""
