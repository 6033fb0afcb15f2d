// What the programs for node.js have in common; see stream.py.
const [port, name, settings, seconds] = process.argv.slice(2);
exports.port = Number(port);
exports.name = name;
exports.settings = settings;
exports.url = `http://127.0.0.1:${port}/counter/${name}`;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

exports.stream = async (version, increment, told) => {
  console.log("version", version);
  const end = Date.now() + Number(seconds) * 1000;
  while (Date.now() < end) {
    try {
      await increment();
      console.log("ok");
      await pause(1);
    } catch (error) {
      console.log(told(error), String(error).replace(/\s+/g, " "), error.cause?.code ?? error.code ?? "");
      await pause(50);
    }
  }
  process.exit(0);
};

exports.Refused = class extends Error {};

exports.toldByAnswer = (status, kind) => {
  if (status === 200) return;
  const ours = kind.startsWith("application/problem+json") && status !== 500;
  throw new exports.Refused(`${ours ? "error" : "unknown"} ${status} ${kind}`);
};
