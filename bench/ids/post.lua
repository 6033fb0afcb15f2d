-- wrk: POST /counter/NAME over some counters. The first argument is `with` or `without` ids. An id has 16 bytes: the
-- seconds since 1970, and a number that the script counts up; it begins with the second argument.
local digits = "0123456789abcdefghijklmnopqrstuvwxyz"
local headers = {}
local counters = 1000
local number, with

function init(args)
    with, number = args[1] == "with", tonumber(args[2])
end

local function base36(rest)
    local out = {}
    for at = 5, 1, -1 do
        out[at] = digits:sub(rest % 36 + 1, rest % 36 + 1)
        rest = math.floor(rest / 36)
    end
    return table.concat(out)
end

function request()
    number = number + 1
    local id = os.time() .. "-" .. base36(number)
    headers["Idempotency-Key"] = with and id or nil
    return wrk.format("POST", string.format("/counter/bench-%012d", number % counters), headers, "1")
end
