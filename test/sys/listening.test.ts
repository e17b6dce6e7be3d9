import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { localFiles } from "../../src/sys/files.js";
import { HANDSHAKE_LIMITS } from "../../src/sys/handshakes.js";
import { serveHttps } from "../../src/sys/httpserver.js";
import { keepTlsIdentity, type TlsIdentity } from "../../src/sys/tls.js";

/** Less than a handshake is given. */
const CLOSED_WITHIN_MS = HANDSHAKE_LIMITS.silentMs - 1_000;
let tls: TlsIdentity;
before(async () => {
  const folder = await mkdtemp(join(tmpdir(), "exn-listening-"));
  const paths = { key: join(folder, "key"), certificate: join(folder, "crt") };
  tls = await keepTlsIdentity(localFiles, paths, ["127.0.0.1"], Date.now());
  await rm(folder, { recursive: true });
});

test("a server is closed at once while somebody's TLS handshake is under way", {
  timeout: CLOSED_WITHIN_MS,
}, async () => {
  const { key, certificate } = tls;
  const served = await serveHttps({
    address: "127.0.0.1",
    port: 0,
    key,
    certificate,
    answer: () => new Response("ok"),
    sockets: { path: "/control", messageBytesMax: 1, connectionsMax: 10, accept: () => undefined },
  });
  const silent = connect(served.port, "127.0.0.1");
  silent.on("error", () => undefined);
  await once(silent, "connect");
  const ended = once(silent, "close");
  // The server has the connection when it has answered on another one.
  const other = connect(served.port, "127.0.0.1");
  other.on("error", () => undefined);
  other.end("no TLS");
  await once(other, "close");
  await served.close();
  await ended;
  assert.ok(silent.destroyed);
});
