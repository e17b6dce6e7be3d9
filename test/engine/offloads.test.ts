import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { OFFLOADS, type Offload } from "../../src/engine/offloads.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import type { Backend, WantInterface } from "../../src/wireguard/interface.js";
import { backendContract } from "./backendcontract.js";
import { threadIn } from "./enginethread.js";
import { makePair, must, type Place, removePlaces } from "./places.js";

/** Each offload may be missing; what goes through the tunnel must be the same bytes, and `status` must say so. */
const NAMES = Object.keys(OFFLOADS) as Offload[];
const PLACES = ["exn-en-o1", "exn-en-o2"] as const;
const SECRETS = [0x61, 0x62].map((byte) => new Uint8Array(32).fill(byte));
const BYTES = 4_000_000;

const wantOf = (index: 0 | 1): WantInterface => {
  const other = 1 - index;
  return {
    name: `exneno${index + 1}`,
    privateKey: keyOf(SECRETS[index] ?? new Uint8Array()),
    listenPort: 51_820,
    mtu: 1420,
    fwmark: 0,
    peers: [
      {
        publicKey: keyOf(keyPairOf(SECRETS[other] ?? new Uint8Array()).publicKey),
        endpoint: parseEndpoint(`10.99.7.${other + 1}:51820`),
        allowedIps: [parseCidr(`100.64.7.${other + 1}/32`), parseCidr(`fd7e:7::${other + 1}/128`)],
        persistentKeepaliveSeconds: 0,
      },
    ],
  };
};

let places: [Place, Place];
before(async () => {
  places = await makePair(...PLACES);
});
after(() => removePlaces(...PLACES));

async function openOne(index: 0 | 1, without: readonly Offload[]): Promise<Backend> {
  const place = places[index];
  const engine = new Engine({ workerUrl: threadIn(place.name), without });
  const want = wantOf(index);
  await engine.set(want);
  await must(place, `ip link set ${want.name} mtu 1420 up`);
  await must(place, `ip address add 100.64.7.${index + 1}/24 dev ${want.name}`);
  await must(place, `ip address add fd7e:7::${index + 1}/64 dev ${want.name} nodad`);
  return engine;
}

/** A pattern whose every part differs, sent over TCP; the receiver's sum of it. */
const PATTERN = `const b=Buffer.alloc(${BYTES});for(let i=0,s=1;i<b.length;i+=4)b.writeInt32LE(s=Math.imul(s,1103515245)+12345|0,i);`;
const SUM = `require("crypto").createHash("sha256")`;
const RECEIVE = `const h=${SUM};require("net").createServer(s=>s.on("data",d=>h.update(d)).on("end",()=>{console.log(h.digest("hex"));process.exit()})).listen(7000,"::",()=>console.error("ready"))`;

async function copies(from: Place, to: Place, address: string): Promise<boolean> {
  const run = (place: Place, program: string) =>
    spawn("ip", ["netns", "exec", place.name, "timeout", "120", process.execPath, "-e", program], {
      stdio: ["ignore", "pipe", "pipe"],
    });
  const receiver = run(to, RECEIVE);
  await once(receiver.stderr, "data");
  const sender = run(
    from,
    `${PATTERN}console.log(${SUM}.update(b).digest("hex"));require("net").connect(7000,"${address}").end(b)`,
  );
  const [sent, received] = await Promise.all([text(sender.stdout), text(receiver.stdout)]);
  return sent.length > 0 && sent === received;
}

async function holds(without: readonly Offload[]): Promise<void> {
  const engines = [await openOne(0, without), await openOne(1, [])];
  try {
    const [here, there] = places;
    for (const address of ["100.64.7.2", "fd7e:7::2"]) assert.ok(await copies(here, there, address), `to ${address}`);
    for (const address of ["100.64.7.1", "fd7e:7::1"]) assert.ok(await copies(there, here, address), `to ${address}`);
    const warnings = (await engines[0]?.state())?.warnings ?? [];
    for (const name of without) assert.ok(warnings.includes(OFFLOADS[name]), name);
  } finally {
    for (const engine of engines) await engine.close();
  }
}

test("with everything there, what is sent arrives unchanged, and there is nothing to warn of", async () => {
  await holds([]);
});

for (const name of NAMES)
  test(`without ${name} what is sent arrives unchanged, and the state says what is missing`, () => holds([name]));

backendContract("the userspace engine without any offload", {
  prefix: "exn-en-w",
  open: async (place) => new Engine({ workerUrl: threadIn(place.name), without: NAMES }),
});
