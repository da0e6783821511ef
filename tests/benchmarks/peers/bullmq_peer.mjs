// Jobs per second of one BullMQ worker process: `node bullmq_peer.mjs SOCKET JOBS CONCURRENCY`, in the peers' folder.
//
// The jobs do nothing and are all queued before the clock starts; completed jobs are kept, as our results are.

import { createRequire } from "node:module";

const { Queue, Worker } = createRequire(`${process.cwd()}/`)("bullmq");
const [path, jobs, concurrency] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const connection = { path, maxRetriesPerRequest: null };
const CHUNK = 1000;

const queue = new Queue("benchmark", { connection });
for (let at = 0; at < jobs; at += CHUNK) {
  const chunk = Array.from({ length: Math.min(CHUNK, jobs - at) }, (_, number) => ({
    name: "classify",
    data: { ref: `/nowhere/${at + number}.jpg` },
  }));
  await queue.addBulk(chunk);
}

const worker = new Worker("benchmark", async () => ({}), { connection, concurrency, autorun: false });
await worker.waitUntilReady();
let done = 0;
let begun, cpu;
const seconds = await new Promise((resolve, reject) => {
  worker.on("completed", () => {
    done += 1;
    if (done === jobs) resolve(Number(process.hrtime.bigint() - begun) / 1e9);
  });
  worker.on("failed", (_, error) => reject(error));
  worker.on("error", reject);
  begun = process.hrtime.bigint();
  cpu = process.cpuUsage();
  worker.run();
});
const { user, system } = process.cpuUsage(cpu);
console.log(JSON.stringify({ jobs_per_second: jobs / seconds, cpu_us: (user + system) / jobs }));
await worker.close();
await queue.close();
