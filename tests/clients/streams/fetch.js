// The fetch of node.js, which is undici underneath.
const { settings, stream, url, Refused, toldByAnswer } = require("./stream.js");

const told = (error) => {
  if (error instanceof Refused) return error.message.split(" ")[0];
  return error.cause?.code === "ECONNREFUSED" ? "error" : "unknown";
};

const increment = async () => {
  const answer =
    settings === "default"
      ? await fetch(url, { method: "POST", body: "1" })
      : await fetch(url, { method: "POST", body: "1", signal: AbortSignal.timeout(3000) });
  await answer.text();
  toldByAnswer(answer.status, answer.headers.get("content-type") ?? "");
};

stream(`node.js ${process.version}, undici ${process.versions.undici}`, increment, told);
