import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { copyingAead } from "../../src/engine/arenaaead.js";
import { CIPHERS_ARENA_BYTES, loadCiphers } from "../../src/engine/ciphers.js";
import { MessageRun } from "../../src/engine/messagerun.js";
import type { Offload } from "../../src/engine/offloads.js";
import { formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { ipBytes, parseIp } from "../../src/kit/ip.js";
import { Arena, fixedMemory } from "../../src/sys/arena.js";
import { localExec } from "../../src/sys/exec.js";
import { loadKoffi, NATIVE_FILE } from "../../src/sys/koffi.js";
import { loadLibc } from "../../src/sys/libc.js";
import { type Remote, Remotes, SENDERS_MAX } from "../../src/sys/sockaddr.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";

const folder = mkdtempSync(join(tmpdir(), "exn-en-"));
after(() => rmSync(folder, { recursive: true }));

test("a single-file bundle loads koffi from beside it, and says so when it is not there", async () => {
  const entry = join(folder, "entry.ts");
  const outfile = join(folder, "out", "bundle.mjs");
  const libc = join(dirname(fileURLToPath(import.meta.url)), "../../src/sys/libc.js");
  writeFileSync(entry, `import { loadLibc } from "${libc}"; console.log(loadLibc().eventfd(0, 0) > 0);`);
  await build({ entryPoints: [entry], outfile, bundle: true, format: "esm", platform: "node", external: ["koffi"] });
  const without = await localExec.run([process.execPath, outfile]);
  assert.match(without.stderr, /koffi-missing/);
  const require = createRequire(import.meta.url);
  const native = join(
    dirname(require.resolve(`@koromix/koffi-linux-${process.arch}`)),
    `linux_${process.arch}/koffi.node`,
  );
  copyFileSync(native, join(folder, "out", NATIVE_FILE));
  assert.equal((await localExec.run([process.execPath, outfile])).stdout, "true\n");
});

test("koffi comes out of node_modules in development", () => {
  assert.equal(typeof loadKoffi().load, "function");
});

const WITHOUT: Record<string, readonly Offload[]> = {
  "the accelerator": [],
  wasm: ["accelerator"],
  "node:crypto": ["accelerator", "wasm"],
};
for (const [name, without] of Object.entries(WITHOUT))
  test(`${name} seals and opens in the arena as node:crypto does, and refuses what was altered`, (context) => {
    const libc = loadLibc();
    const memory = fixedMemory(CIPHERS_ARENA_BYTES + 3 * 65_536);
    const arena = new Arena(libc, memory);
    const { aead, missing } = loadCiphers(libc, arena, memory, new Set(without));
    if (missing.length !== without.length) return context.skip(`this machine has no ${missing.join(", ")}`);
    const copying = copyingAead(aead, arena, arena.take(65_600));
    const place = arena.take(65_600);
    const run = new MessageRun(arena);
    for (const key of [Uint8Array.from({ length: 32 }, (_, i) => i * 5), new Uint8Array(32).fill(7)])
      for (const length of [0, 1, 15, 16, 17, 1_280, 65_456])
        for (const counter of [0, 1, 2 ** 32 + 5, 2n ** 63n + 7n]) {
          const [high, low] = [Number(BigInt(counter) >> 32n), Number(BigInt(counter) & 0xffff_ffffn)];
          const plain = Uint8Array.from({ length }, (_, i) => i);
          const expected = new Uint8Array(length + 16);
          nodeAead.seal(key, counter, plain, expected, 0);
          arena.bytes.set(plain, place);
          run.clear();
          run.add(place, length, high, low);
          aead.seal(key, run);
          assert.deepEqual(arena.bytes.slice(place, place + length + 16), expected);
          aead.open(key, run);
          assert.equal(run.genuine(0), true);
          assert.deepEqual(arena.bytes.slice(place, place + length), plain);
          arena.bytes.set(expected, place);
          arena.bytes[place + length] = (expected[length] ?? 0) ^ 1;
          aead.open(key, run);
          assert.equal(run.genuine(0), false);
          const copied = new Uint8Array(length + 19);
          copying.seal(key, counter, plain, copied, 3);
          assert.deepEqual(copied.slice(3), expected);
          assert.equal(copying.open(key, counter, expected, copied, 0), length);
          aead.forget();
        }
    assert.equal(copying.open(new Uint8Array(32), 0, new Uint8Array(15), new Uint8Array(16), 0), -1);
  });

test("a sender is one object for every datagram, for more senders than are remembered", () => {
  const remotes = new Remotes();
  const memory = new Uint8Array(64);
  const view = new DataView(memory.buffer);
  const arrive = (text: string, source?: string): Remote => {
    const sent = remotes.of(parseEndpoint(text));
    memory.fill(0);
    memory.set(sent.sockaddr);
    if (source !== undefined) memory.set(ipBytes(parseIp(source)), 32);
    return remotes.from(memory, view, 0, source === undefined ? 0 : 32);
  };
  for (const text of ["203.0.113.7:51820", "255.255.255.255:65535", "[2001:db8::7]:1", "[::1]:51820"]) {
    const once = arrive(text);
    assert.deepEqual({ address: once.address, port: once.port }, parseEndpoint(text));
    assert.equal(arrive(text), once, "the same sender is the same object");
    assert.equal(remotes.of(once), once);
  }
  const home = arrive("203.0.113.7:51820", "192.0.2.1");
  assert.deepEqual(home.source, ipBytes(parseIp("192.0.2.1")));
  assert.equal(arrive("203.0.113.7:51820", "192.0.2.1"), home);
  assert.notEqual(arrive("203.0.113.7:51820", "192.0.2.2"), home, "written to at another address of ours");
  assert.deepEqual(arrive("[2001:db8::7]:1", "2001:db8::9").source, ipBytes(parseIp("2001:db8::9")));
  for (let i = 0; i < SENDERS_MAX + 10; i++) {
    const endpoint = `10.0.${i >> 8}.${i & 255}:${1 + i}`;
    assert.equal(formatEndpoint(arrive(endpoint)), endpoint);
  }
});
