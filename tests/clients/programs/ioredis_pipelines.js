// ioredis as its users write it: `ioredis_pipelines.js PORT`; prints JSON.
const Redis = require("ioredis");

(async () => {
  const client = new Redis(Number(process.argv[2]), "127.0.0.1", {maxRetriesPerRequest: 0});
  const found = {};
  found.single = [await client.incr("js"), await client.incrby("js", 41), await client.get("js"), await client.get("none")];
  const batch = client.pipeline();
  for (let n = 0; n < 50000; n++) batch.incr("many");
  found.pipeline = (await batch.exec()).every(([error, answer], n) => error === null && answer === n + 1);
  found.mget = await client.mget("js", "many", "none");
  const names = [];
  for await (const some of client.scanStream({match: "*"})) names.push(...some);
  found.scan = names.sort();
  found.refused = await client.set("js", 1).catch((error) => error.message.split(":")[0]);
  found.consistent = [await client.call("GCOUNT.CONSISTENT", "js"), await client.wait(0, 100)];
  found.multi = await client.multi().incr("m").incrby("m", 5).get("m").exec();
  found.wrong = await client.multi().incr("m").set("m", 1).exec().catch((error) => error.message);
  found.after = await client.get("m");
  await client.multi({pipeline: false});
  await client.incr("m");
  found.discarded = [await client.discard(), await client.get("m")];
  found.watch = await client.watch("m").catch((error) => error.message.split(":")[0]);
  await client.unwatch();
  found.info = (await client.client("INFO")).includes("lib-name=");
  console.log(JSON.stringify(found));
  await client.quit();
})().catch((error) => { console.error(error); process.exit(1); });
