// Two coordinators of one PostgreSQL, one beside the other: how soon a change at one is known to the devices of the
// other, and how soon the devices of one that is killed are back. Both and the database share a core.
import { loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  built,
  call,
  makeFolder,
  percentiles,
  round,
  say,
  sleep,
  startCoordinator,
  startLoad,
  stop,
} from "./coordinatorload.mjs";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean" },
    devices: { type: "string", default: "200" },
    changes: { type: "string", default: "100" },
  },
});
const PORTS = [24_441, 24_442];
const SETTLE_MS = 3_000;

const { startPostgres } = await import(join(built, "test/coordinator/postgres.js"));
const { decodeJoinKey } = await import(join(built, "src/wire/joinkey.js"));
const postgres = await startPostgres();
const database = await postgres.database();
const { host, port, user } = postgres;
const store = `store: ${JSON.stringify({ kind: "postgres", host, port, user, database, tls: "off" })}`;
const urls = PORTS.map((one) => `https://127.0.0.1:${one}`);
const folders = PORTS.map((one) => makeFolder(one, urls, store));
const coordinators = [];
for (const folder of folders) coordinators.push(await startCoordinator(folder));
const { publicKey } = coordinators[0].status;

const { joinKey } = call(folders[0], "POST", "/keys", { role: "device", reusable: true });
const secrets = [{ secret: decodeJoinKey(joinKey).secret, role: "device", count: Number(options.devices) }];
const { child: load, ask } = startLoad();
const joined = await ask({ do: "join", ports: PORTS, publicKey, secrets });
say(`${options.devices} devices at two coordinators: ${round(joined.joinsPerSecond)} joins/s`);
await sleep(SETTLE_MS);

const pushed = await ask({ do: "push", rounds: Number(options.changes), across: true });
const acrossMs = percentiles(pushed.delays);
say(`a change reaches ${round(pushed.peers)} devices of the other coordinator: ${JSON.stringify(acrossMs)}`);

const { devices: away } = await ask({ do: "expect-back", from: PORTS[1] });
await stop(coordinators[1].child, "SIGKILL");
const { delays } = await ask({ do: "back" });
const backMs = { ...percentiles(delays), last: round(Math.max(...delays)) };
say(`${away} devices of the one that was killed are back: ${JSON.stringify(backMs)}`);
load.kill("SIGKILL");
await stop(coordinators[0].child, "SIGTERM");
await postgres.close();
const result = { bench: "coordinators", devices: Number(options.devices), load: loadavg()[0], acrossMs, backMs };
process.stdout.write(`${JSON.stringify(result, null, options.json ? 0 : 2)}\n`);
process.exit(0);
