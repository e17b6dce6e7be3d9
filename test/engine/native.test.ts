import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { localExec } from "../../src/sys/exec.js";
import { loadKoffi, NATIVE_FILE } from "../../src/sys/koffi.js";
import { loadLibc } from "../../src/sys/libc.js";
import { Libcrypto, loadLibcrypto } from "../../src/sys/libcrypto.js";
import { readSockaddr, SENDERS_MAX, Sockaddrs } from "../../src/sys/sockaddr.js";
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

test("libcrypto seals and opens as node:crypto does, in place too, and refuses what was altered", (context) => {
  const crypto = loadLibcrypto(loadLibc());
  if (!(crypto instanceof Libcrypto)) return context.skip("no libcrypto.so.3 here");
  const key = Uint8Array.from({ length: 32 }, (_, i) => i * 5);
  for (const length of [0, 1, 15, 16, 17, 1_280, 65_456])
    for (const counter of [0, 1, 2 ** 32 + 5, 2n ** 63n + 7n]) {
      const plain = Uint8Array.from({ length }, (_, i) => i);
      const sealed = new Uint8Array(length + 16 + 3);
      const expected = new Uint8Array(length + 16 + 3);
      crypto.seal(key, counter, plain, sealed, 3);
      nodeAead.seal(key, counter, plain, expected, 3);
      assert.deepEqual(sealed, expected);
      const inPlace = new Uint8Array(length + 16);
      inPlace.set(plain);
      crypto.seal(key, counter, inPlace.subarray(0, length), inPlace, 0);
      assert.deepEqual(inPlace, expected.subarray(3));
      const opened = new Uint8Array(length);
      assert.equal(crypto.open(key, counter, inPlace, opened, 0), length);
      assert.deepEqual(opened, plain);
      inPlace[length] = (inPlace[length] ?? 0) ^ 1;
      assert.equal(crypto.open(key, counter, inPlace, opened, 0), -1);
    }
  assert.equal(crypto.open(key, 0, new Uint8Array(15), new Uint8Array(16), 0), -1);
});

test("socket addresses are read as they are written, for more senders than are remembered", () => {
  const sockaddrs = new Sockaddrs();
  for (const text of ["203.0.113.7:51820", "255.255.255.255:65535", "[2001:db8::7]:1", "[::1]:51820"]) {
    const bytes = new Uint8Array(32);
    bytes.set(sockaddrs.encode(parseEndpoint(text)));
    assert.deepEqual(readSockaddr(bytes), parseEndpoint(text));
    const view = new DataView(bytes.buffer);
    const once = sockaddrs.decode(bytes, view, 0);
    assert.deepEqual(once, parseEndpoint(text));
    assert.equal(sockaddrs.decode(bytes, view, 0), once, "the same sender is the same object");
  }
  const bytes = new Uint8Array(32);
  for (let i = 0; i < SENDERS_MAX + 10; i++) {
    const endpoint = parseEndpoint(`10.0.${i >> 8}.${i & 255}:${1 + i}`);
    bytes.set(sockaddrs.encode(endpoint));
    assert.deepEqual(sockaddrs.decode(bytes, new DataView(bytes.buffer), 0), endpoint);
  }
});
