-- wrk: the requests of a file, again and again. Each line of it is METHOD PATH BODY; the body may be missing.
local requests = {}
local at = 0

function init(args)
    for line in io.lines(args[1]) do
        local method, path, body = line:match("^(%S+) (%S+) ?(.*)$")
        requests[#requests + 1] = wrk.format(method, path, nil, body ~= "" and body or nil)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
