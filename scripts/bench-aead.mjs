// What one packet costs to seal, to open and to add up, by everything that can do it here: nanoseconds, the median of
// many short rounds in turn.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";

const { values: options } = parseArgs({
  options: { json: { type: "boolean" }, rounds: { type: "string", default: "300" } },
});
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 10_000)
  throw new Error(`--rounds must be 1 to 10000, got ${options.rounds}`);

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(root, "build-bench");
execFileSync(process.execPath, [join(root, "scripts/build.mjs"), "dev"], {
  env: { ...process.env, EXN_BUILD: out },
  stdio: "inherit",
});
const { Arena, fixedMemory } = await import(join(out, "src/sys/arena.js"));
const { loadLibc } = await import(join(out, "src/sys/libc.js"));
const { ACCELERATOR_ARENA_BYTES, loadAccelerator } = await import(join(out, "src/sys/accelerator.js"));
const { MessageRun, RUN_ARENA_BYTES } = await import(join(out, "src/engine/messagerun.js"));
const { loadWasm, WASM_SCRATCH_BYTES } = await import(join(out, "src/engine/wasmaead.js"));
const { nodeAead } = await import(join(out, "src/wireguard/transportaead.js"));

/** One turn of a round: packets sealed, or opened, one after another. 44 packets are what one TUN read is cut into. */
const PACKETS = 44;
const STRIDE = 1_536;
const TAG_BYTES = 16;

const libc = loadLibc();
const memory = fixedMemory(PACKETS * STRIDE + ACCELERATOR_ARENA_BYTES + RUN_ARENA_BYTES + WASM_SCRATCH_BYTES + 4_096);
const arena = new Arena(libc, memory);
const wasm = loadWasm(memory, arena.take(WASM_SCRATCH_BYTES));
const accelerator = loadAccelerator(libc, arena);
rmSync(out, { recursive: true });
const run = new MessageRun(arena);
const keyAt = arena.take(32);
const packets = arena.take(PACKETS * STRIDE);
const key = new Uint8Array(randomBytes(32));
arena.bytes.set(key, keyAt);
const offsets = Array.from({ length: PACKETS }, (_, i) => packets + i * STRIDE);
const each = (work) => () => {
  for (let i = 0; i < PACKETS; i++) work(i, offsets[i]);
};

/** The table of all packets, as the engine writes it. */
function lay(length) {
  run.clear();
  for (const [i, at] of offsets.entries()) run.add(at, length, 0, i);
  return run.table;
}

function contestants(length) {
  const nonce = new Uint8Array(12);
  const sealed = (at) => arena.bytes.subarray(at, at + length + TAG_BYTES);
  const plain = (at) => arena.bytes.subarray(at, at + length);
  return {
    ...(accelerator && {
      accelerator: {
        seal: () => accelerator.seal(key, lay(length), PACKETS),
        open: () => accelerator.open(key, lay(length), PACKETS),
      },
    }),
    ...(wasm && {
      wasm: {
        seal: each((i, at) => wasm.seal(keyAt, i, 0, at, length)),
        open: each((i, at) => wasm.open(keyAt, i, 0, at, length)),
      },
      "wasm, a run at once": { seal: () => wasm.sealRun(keyAt, 0, 0, packets, length, STRIDE, PACKETS) },
    }),
    "node:crypto": {
      seal: each((i, at) => nodeAead.seal(key, i, plain(at), arena.bytes, at)),
      open: each((i, at) => nodeAead.open(key, i, sealed(at), arena.bytes, at)),
    },
    "@noble/ciphers": {
      seal: each((i, at) => {
        nonce[4] = i;
        arena.bytes.set(chacha20poly1305(key, nonce).encrypt(plain(at)), at);
      }),
      open: each((i, at) => {
        nonce[4] = i;
        arena.bytes.set(chacha20poly1305(key, nonce).decrypt(sealed(at)), at);
      }),
    },
  };
}

function nanoseconds(work) {
  const from = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - from) / PACKETS;
}

const median = (list) => Math.round([...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN);

function measure(length) {
  const all = contestants(length);
  const times = Object.fromEntries(Object.keys(all).map((name) => [name, { seal: [], open: [] }]));
  // As many rounds again beforehand: every function has been optimized when it counts.
  for (let round = -rounds; round < rounds; round++)
    for (const [name, { seal, open }] of Object.entries(all)) {
      const sealing = nanoseconds(seal);
      const opening = open && nanoseconds(open);
      if (round < 0) continue;
      times[name].seal.push(sealing);
      if (open) times[name].open.push(opening);
    }
  return Object.fromEntries(
    Object.entries(times).map(([name, { seal, open }]) => [
      name,
      { sealNs: median(seal), ...(open.length > 0 && { openNs: median(open) }) },
    ]),
  );
}

function measureSum(length) {
  const times = [];
  let total = 0;
  const sums = each((_, at) => {
    total = wasm.sum(at, length, total);
  });
  for (let round = -rounds; round < rounds; round++) {
    const time = nanoseconds(sums);
    if (round >= 0) times.push(time);
  }
  return median(times);
}

const figures = {
  packetBytes: Object.fromEntries([1420, 576, 64].map((length) => [length, measure(length)])),
  checksumNs: wasm === undefined ? undefined : { 1380: measureSum(1380), 40: measureSum(40) },
  rounds,
};
if (options.json) console.log(JSON.stringify(figures));
else {
  for (const [length, byName] of Object.entries(figures.packetBytes))
    for (const [name, { sealNs, openNs }] of Object.entries(byName))
      console.log(
        `${length.padStart(4)} bytes  ${name.padEnd(20)} seal ${sealNs} ns${openNs === undefined ? "" : `, open ${openNs} ns`}`,
      );
  for (const [length, time] of Object.entries(figures.checksumNs ?? {}))
    console.log(`${length.padStart(4)} bytes  checksum, wasm       ${time} ns`);
}
