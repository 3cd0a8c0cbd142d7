"""The packaged rules, of which the patterns are compiled once in a process: that takes a third of a second."""

from __future__ import annotations

from openapi_server.moderation.input_rules import InputRules
from openapi_server.moderation.output_rules import OutputRules
from openapi_server.moderation.rule_set import load_packaged_rules


def load_input_rules() -> InputRules:
    packaged = load_packaged_rules()
    return InputRules(packaged.messages, packaged.guidance)


def load_output_rules() -> OutputRules:
    return OutputRules(load_packaged_rules().replies)
