-- wrk: POST one file again and again. wrk -s bench/post.lua URL -- FILE [TYPE]
function init(args)
    local file = assert(io.open(args[1] or error("post.lua: no file given"), "rb"))
    wrk.method = "POST"
    wrk.body = file:read("*a")
    wrk.headers["Content-Type"] = args[2] or "image/jpeg"
    file:close()
end
