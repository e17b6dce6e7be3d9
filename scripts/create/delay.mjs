// TCP connections that take their time: every byte arrives a fixed delay after it was sent, in each direction.
import { connect, createServer } from "node:net";

/** Listens at `at` and hands on to `to`; the connection itself takes a round trip, as a real one does. */
export function delayed(at, to, oneWayMs) {
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ ...to, allowHalfOpen: true });
    for (const [from, into] of [
      [near, far],
      [far, near],
    ]) {
      // The way there and back of the handshake; whatever follows does not overtake what it held up.
      let due = performance.now() + (from === near ? 2 * oneWayMs : 0);
      const waiting = [];
      const later = (act) => {
        due = Math.max(due, performance.now() + oneWayMs);
        waiting.push(act);
        setTimeout(() => waiting.shift()(), due - performance.now());
      };
      from.setNoDelay(true);
      from.on("data", (chunk) => later(() => into.writable && into.write(chunk)));
      from.on("end", () => later(() => into.end()));
      from.on("error", () => into.destroy());
      from.on("close", (broken) => broken && into.destroy());
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(at, () => resolve(server));
  });
}

// As a program: delay.mjs ONE-WAY-MS UID PORT=HOST:PORT…; it says "ready" and goes on until it is killed.
if (process.argv[1] === import.meta.filename) {
  const [oneWay, uid, ...ways] = process.argv.slice(2);
  for (const way of ways) {
    const [port, target] = way.split("=");
    const [host, targetPort] = target.split(":");
    await delayed({ host: "127.0.0.1", port: Number(port) }, { host, port: Number(targetPort) }, Number(oneWay));
  }
  process.setuid(Number(uid));
  console.log("ready");
}
