// Increments with ids by the fetch of node.js: `fetch.js PORT NAME`, until standard input ends.
// The last line is the number of increments. Each was sent until it was acknowledged, with one id.
const { randomUUID } = require("node:crypto");

const [port, name] = process.argv.slice(2);
const url = `http://127.0.0.1:${port}/counter/${name}`;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

let done = false;
process.stdin.on("end", () => (done = true)).resume();

const acknowledged = async (id) => {
  try {
    const headers = { "Idempotency-Key": id };
    const answer = await fetch(url, { method: "POST", body: "1", headers, signal: AbortSignal.timeout(1000) });
    await answer.text();
    return answer.status === 200;
  } catch {
    return false;
  }
};

const main = async () => {
  let counted = 0;
  while (!done) {
    const id = `${Math.floor(Date.now() / 1000)}-${randomUUID()}`;
    while (!(await acknowledged(id))) await pause(20);
    counted += 1;
  }
  console.log(counted);
};

main();
