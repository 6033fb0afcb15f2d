// undici as a package of its own.
const { Agent, request } = require("undici");
const { settings, stream, url, Refused, toldByAnswer } = require("./stream.js");

const told = (error) => {
  if (error instanceof Refused) return error.message.split(" ")[0];
  return ["ECONNREFUSED", "UND_ERR_CONNECT_TIMEOUT"].includes(error.code) ? "error" : "unknown";
};

const dispatcher =
  settings === "default"
    ? new Agent()
    : new Agent({ headersTimeout: 3000, bodyTimeout: 3000, connect: { timeout: 1000 } });

const increment = async () => {
  const answer = await request(url, { method: "POST", body: "1", dispatcher });
  await answer.body.text();
  toldByAnswer(answer.statusCode, answer.headers["content-type"] ?? "");
};

stream(require("undici/package.json").version, increment, told);
