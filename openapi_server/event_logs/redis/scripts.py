"""The keys of a turn, and the scripts that read and change them, each in one step.

All keys of a turn have `{turnId}` in their names, so that a cluster keeps them on one node:

    <prefix>:{turnId}:events    stream: the entries, with the ids `seq-0`
    <prefix>:{turnId}:state     hash: `owner` (the process that may append), `last` (the number of the last entry),
                                `closed`, `ending` (how the turn ended, where another process than the owner tells it),
                                `deleted`
    <prefix>:{turnId}:live      channel: each change, for those who read the turn in other processes
    <prefix>:process:<worker>   channel: what other processes ask of this one, as `KIND turnId`

A message of the channel `live` is `KIND first`, and then one entry in each further line.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Names the keys and channels. `prefix` keeps several servers in one Redis apart."""

    prefix: str

    def get_turn_keys(self, turn_id: str) -> tuple[str, str]:
        """The stream and the state of a turn."""
        return f"{self.prefix}:{{{turn_id}}}:events", f"{self.prefix}:{{{turn_id}}}:state"

    def get_channel(self, turn_id: str) -> str:
        return f"{self.prefix}:{{{turn_id}}}:live"

    def get_process_channel(self, worker: str) -> str:
        return f"{self.prefix}:process:{worker}"

    def parse_channel(self, channel: str) -> str | None:
        """The id of the turn whose channel it is; None for another channel.

        >>> Keys("zoo").parse_channel("zoo:{turn_a}:live"), Keys("zoo").parse_channel("zoo:process:here/1/a")
        ('turn_a', None)
        """
        head, tail = f"{self.prefix}:{{", "}:live"
        is_turn = channel.startswith(head) and channel.endswith(tail)
        return channel[len(head) : -len(tail)] if is_turn else None


# Append entries. ARGV: owner, number of the first entry, milliseconds until the keys expire, whether a log may be begun
# here (1 or 0), whether the last entry is terminal, the channel, the entries.
# Answers: ok and the last number; fenced: another process owns the log, or it was deleted; closed; gap and the last
# number: send again what follows it; lost: there is no log, and none may be begun.
# An entry that is there already is left as it is, so a call may be repeated.
APPEND = """
local state = redis.call('HMGET', KEYS[2], 'owner', 'last', 'closed', 'deleted')
local first, last = tonumber(ARGV[2]), tonumber(state[2]) or 0
if state[4] then return {'fenced', 0} end
if state[1] and state[1] ~= ARGV[1] then return {'fenced', last} end
local count = #ARGV - 6
if not state[1] or redis.call('XLEN', KEYS[1]) ~= last then
    if ARGV[4] == '0' then return {'lost', 0} end
    redis.call('DEL', KEYS[1], KEYS[2])
    state[1], state[3], last = false, false, 0
end
if first > last + 1 then return {'gap', last} end
if state[3] then
    if first + count - 1 > last then return {'closed', last} end
    return {'ok', last}
end
local fresh = {}
for position = 1, count do
    local seq = first + position - 1
    if seq > last then
        local added = redis.pcall('XADD', KEYS[1], string.format('%d-0', seq), 'e', ARGV[6 + position])
        if type(added) == 'table' and added.err then
            -- The number was there before: somebody has deleted the entry. Any other error is Redis' own.
            if not string.find(added.err, 'equal or smaller', 1, true) then return added end
            redis.call('DEL', KEYS[1], KEYS[2])
            return {'gap', 0}
        end
        fresh[#fresh + 1] = ARGV[6 + position]
    end
end
if not state[1] then redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'last', '0') end
if #fresh > 0 then
    local published = string.format('entries %d', last + 1) .. '\\n' .. table.concat(fresh, '\\n')
    last = last + #fresh
    redis.call('HSET', KEYS[2], 'last', string.format('%d', last))
    if ARGV[5] == '1' then redis.call('HSET', KEYS[2], 'closed', '1') end
    redis.call('PUBLISH', ARGV[6], published)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {'ok', last}
"""

# End the log of a turn that another process has settled. ARGV: the new owner, milliseconds, the channel, the entry that
# tells how the turn ended. It gets no number: the owner may have given the next ones to readers of its own.
END = """
local state = redis.call('HMGET', KEYS[2], 'closed', 'deleted', 'last')
if state[1] or state[2] then return {'closed', 0} end
redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'closed', '1', 'ending', ARGV[4], 'last', state[3] or '0')
redis.call('PUBLISH', ARGV[3], 'ending 0\\n' .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {'ok', 0}
"""

# Delete the log. ARGV: milliseconds for which its owner is kept from writing it again, the channel, the first part of
# the names of the processes' channels, the turn.
DELETE = """
local owner = redis.call('HGET', KEYS[2], 'owner')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'deleted', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[2], 'deleted 0')
if owner then redis.call('PUBLISH', ARGV[3] .. owner, 'delete ' .. ARGV[4]) end
return {'ok', 0}
"""

# Read the log from the entry with the number ARGV[1] on: owner, last number, whether it is closed, the ending, whether
# it was deleted, the entries.
READ = """
local state = redis.call('HMGET', KEYS[2], 'owner', 'last', 'closed', 'ending', 'deleted')
return {state, redis.call('XRANGE', KEYS[1], ARGV[1] .. '-0', '+')}
"""
