// ioredis.
const Redis = require("ioredis");
const { name, port, settings, stream } = require("./stream.js");

const told = (error) =>
  error.name === "ReplyError" || error.message.startsWith("Stream isn't writeable") ? "error" : "unknown";

const client =
  settings === "default"
    ? new Redis({ port })
    : new Redis({ port, maxRetriesPerRequest: 0, socketTimeout: 3000, connectTimeout: 1000, enableOfflineQueue: false });
client.on("error", () => {});
client.once("ready", () => stream(require("ioredis/package.json").version, () => client.incr(name), told));
