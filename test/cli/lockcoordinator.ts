import type { CreatedKey } from "../../src/wire/adminapi.js";
import { openBench } from "../coordinator/bench.js";

/** A coordinator on loopback in a place of its own, without a device lock; prints a join key. The end of stdin stops it. */
const PORT = 8_443;
const url = `https://127.0.0.1:${PORT}`;
const bench = await openBench({ want: { listen: { address: "127.0.0.1", port: PORT }, urls: [url] } });
const created = (await bench.call("POST", "/api/v1/keys", { role: "device", reusable: true })).body as CreatedKey;
process.stdout.write(`= ${created.joinKey}\n`);
process.stdin.resume();
process.stdin.once("end", () => void bench.close().finally(() => process.exit()));
