import { createInterface } from "node:readline";
import type { CreatedKey } from "../../src/wire/adminapi.js";
import { administratorOf } from "../coordinator/administrator.js";
import { openBench } from "../coordinator/bench.js";

/**
 * A real coordinator and its administrator, in a place of their own: node appmiddle.js ADDRESS. The first line on stdout
 * holds the coordinator's key and a join key for an exit node; then a line on stdin is a command, and one on stdout what
 * came of it.
 */
const [address = ""] = process.argv.slice(2);
const PORT = 8_443;
const bench = await openBench({
  stunPort: 3_478,
  want: { listen: { address: "0.0.0.0", port: PORT }, urls: [`https://${address}:${PORT}`] },
});
const administrator = await administratorOf(bench);
const { joinKey } = (await bench.call("POST", "/api/v1/keys", { role: "exit-node" })).body as CreatedKey;
process.stdout.write(`${JSON.stringify({ publicKey: bench.coordinator.publicKey, joinKey })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const ran = await administrator.run(...(JSON.parse(line) as string[]));
  process.stdout.write(`${JSON.stringify(ran)}\n`);
}
await bench.close();
process.exit();
