// node-redis as its users write it: `node_redis_pipelines.js PORT`; prints JSON.
const {createClient} = require("redis");

(async () => {
  const client = createClient({url: `redis://127.0.0.1:${process.argv[2]}`, socket: {reconnectStrategy: false}});
  client.on("error", () => {});
  await client.connect();
  const found = {};
  found.single = [await client.incr("js"), await client.incrBy("js", 41), await client.get("js"), await client.get("none")];
  const answers = await Promise.all(Array.from({length: 50000}, () => client.incr("many")));
  found.pipeline = answers.every((answer, n) => answer === n + 1);
  found.multi = await client.multi().incr("m").incrBy("m", 5).get("m").exec();
  found.wrong = await client.multi().incr("m").set("m", "1").exec().catch((error) => String(error.message || error));
  found.after = await client.get("m");
  found.asPipeline = await client.multi().incr("p").incr("p").execAsPipeline();
  found.refused = await client.set("m", "1").catch((error) => error.message.split(":")[0]);
  found.keys = (await client.keys("*")).sort();
  const info = await client.clientInfo();
  found.info = [info.db, info.user, info.resp];
  found.ttl = [await client.ttl("m"), await client.ttl("none")];
  console.log(JSON.stringify(found));
  client.destroy ? client.destroy() : await client.disconnect();
})().catch((error) => { console.error(error); process.exit(1); });
