import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect, createServer } from "node:tls";
import { localFiles } from "../../src/sys/files.js";
import { keepTlsIdentity, type TlsIdentity } from "../../src/sys/tls.js";

const DAY_MS = 24 * 3_600_000;
const from = Date.UTC(2026, 0, 2, 3, 4, 5);
const folder = mkdtempSync(join(tmpdir(), "exn-tls-"));
const paths = { key: join(folder, "tls.key"), certificate: join(folder, "tls.crt") };
let made: TlsIdentity;
let read: X509Certificate;

before(async () => {
  made = await keepTlsIdentity(localFiles, paths, ["relay.example", "192.0.2.1", "2001:db8::1"], from);
  read = new X509Certificate(made.certificate);
});
after(() => rmSync(folder, { recursive: true }));

test("it is signed by its own key, and no authority", () => {
  assert.ok(read.verify(read.publicKey));
  assert.equal(read.ca, false);
  assert.deepEqual(read.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
});

test("it is good for the hosts it was made for, names and addresses, and for no other", () => {
  assert.equal(read.subjectAltName, "DNS:relay.example, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1");
  assert.equal(read.checkHost("other.example"), undefined);
  assert.equal(read.checkIP("192.0.2.2"), undefined);
});

test("a device whose clock is a day behind takes it", () => {
  assert.equal(Date.parse(read.validFrom), from - DAY_MS);
});

test("its key is its owner's alone, and both are kept", async () => {
  assert.equal(statSync(paths.key).mode & 0o777, 0o600);
  assert.deepEqual(await keepTlsIdentity(localFiles, paths, ["other.example"], from + DAY_MS), made);
});

test("whoever trusts it talks TLS to its server", async () => {
  const own = { key: `${paths.key}2`, certificate: `${paths.certificate}2` };
  const { key, certificate } = await keepTlsIdentity(localFiles, own, ["localhost"], Date.now());
  const server = createServer({ key, cert: certificate }, (socket) => socket.end("hello"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: "127.0.0.1", servername: "localhost", ca: certificate });
  const [said] = await once(socket, "data");
  assert.equal(String(said), "hello");
  socket.destroy();
  server.close();
});
