-- wrk: increments in etcd that lose nothing: put value + 1 if the key was not modified since it was read, else read
-- it in the same transaction and try again. Each connection needs a thread of its own (-t as -c), which is its state.
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local threads = {}

local function encode(text)
    local out = {}
    for at = 1, #text, 3 do
        local a, b, c = text:byte(at, at + 2)
        local bits = a * 65536 + (b or 0) * 256 + (c or 0)
        for shift = 3, 0, -1 do
            local number = math.floor(bits / 64 ^ shift) % 64 + 1
            out[#out + 1] = letters:sub(number, number)
        end
        if not c then out[#out] = "=" end
        if not b then out[#out - 1] = "=" end
    end
    return table.concat(out)
end

local function decode(text)
    local bits, size, out = 0, 0, {}
    for letter in text:gmatch("[^=]") do
        bits, size = bits * 64 + letters:find(letter, 1, true) - 1, size + 6
        if size >= 8 then
            size = size - 8
            out[#out + 1] = string.char(math.floor(bits / 2 ^ size))
            bits = bits % 2 ^ size
        end
    end
    return table.concat(out)
end

function setup(thread)
    threads[#threads + 1] = thread
end

function init(args)
    key, value, revision, increments = encode(args[1]), 0, "0", 0
end

function request()
    local body = string.format(
        '{"compare":[{"key":"%s","target":"MOD","mod_revision":"%s"}],' ..
        '"success":[{"request_put":{"key":"%s","value":"%s"}}],' ..
        '"failure":[{"request_range":{"key":"%s"}}]}',
        key, revision, key, encode(tostring(value + 1)), key)
    return wrk.format("POST", "/v3/kv/txn", nil, body)
end

function response(status, headers, body)
    if status ~= 200 then return end
    if body:find('"succeeded":true', 1, true) then
        increments = increments + 1
        value = value + 1
        revision = body:match('"revision":"(%d+)"')
    else
        revision = body:match('"mod_revision":"(%d+)"') or "0"
        value = tonumber(decode(body:match('"value":"([^"]+)"') or "MA=="))
    end
end

function done(summary, latency, requests)
    local sum = 0
    for _, thread in ipairs(threads) do sum = sum + thread:get("increments") end
    print(string.format("increments: %d in %.6f s", sum, summary.duration / 1e6))
end
