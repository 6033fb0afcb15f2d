// node-redis.
const { createClient, ErrorReply, ClientOfflineError } = require("redis");
const { name, port, settings, stream } = require("./stream.js");

const told = (error) => (error instanceof ErrorReply || error instanceof ClientOfflineError ? "error" : "unknown");

const reconnectStrategy = (retries) => Math.min(retries * 50, 500);
const client =
  settings === "default"
    ? createClient({ socket: { port } })
    : createClient({
        disableOfflineQueue: true,
        socket: { port, socketTimeout: 3000, connectTimeout: 1000, reconnectStrategy },
      });
client.on("error", () => {});
client.connect().then(() => stream(require("@redis/client/package.json").version, () => client.incr(name), told));
