import assert from "node:assert/strict";
import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { decodeStunRequest, encodeStunResponse } from "../../src/nat/stun.js";
import { StunRound } from "../../src/nat/stunclient.js";

/** The STUN codec against coturn, both ways, on the loopback interface. */

/** Below the ports that the kernel chooses from. */
const PORT = 27_878;
const SERVERS = [`127.0.0.1:${PORT}`, `127.0.0.1:${PORT + 1}`, `[::1]:${PORT}`].map(parseEndpoint);
const run = promisify(execFile);

/** A slow clock: on a busy machine a server that is there would be taken for one that is not. */
const SLOWNESS = 5;
const now = (): number => performance.now() / SLOWNESS;
const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length));

async function ask(socket: Socket, servers: readonly Endpoint[]) {
  const { port } = socket.address();
  const round = new StunRound(servers, { port, addresses: [parseIp("127.0.0.1"), parseIp("::1")] }, random, now());
  socket.on("message", (datagram, { address, port: from }) =>
    round.receive(datagram, { address: parseIp(address), port: from }, now()),
  );
  while (round.report === undefined) {
    for (const { to, datagram } of round.tick(now())) socket.send(datagram, to.port, to.address);
    const wait = Math.max(0, (round.deadline ?? 0) - now()) * SLOWNESS;
    await Promise.race([once(socket, "message"), new Promise((resolve) => setTimeout(resolve, wait))]);
  }
  return round.report;
}

describe("against coturn", { skip: !existsSync("/usr/bin/turnserver") && "needs coturn", timeout: 120_000 }, () => {
  let server: ChildProcessByStdio<null, Readable, null>;

  before(async () => {
    const ports = ["-p", String(PORT), "--alt-listening-port", String(PORT + 1), "-L", "127.0.0.1", "-L", "::1"];
    const quiet = ["-n", "-S", "--no-auth", "--no-tls", "--no-dtls", "--no-tcp", "--no-cli", "--log-file", "stdout"];
    server = spawn("turnserver", [...quiet, ...ports, "--pidfile", "/dev/null"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    // It prints its listeners, and after the last of them that it is ready.
    const said = createInterface({ input: server.stdout });
    const ready = new Promise<void>((resolve) =>
      said.on("line", (line) => /IO method \(admin thread\)|SQLite DB connection/.test(line) && resolve()),
    );
    const gone = once(server, "exit").then(([code]) => assert.fail(`coturn exited ${code} before it listened`));
    await Promise.race([ready, gone]);
  });

  after(async () => {
    const gone = once(server, "exit");
    server.kill("SIGKILL");
    await gone;
  });

  test("coturn answers our requests over IPv4 on two ports, and we read that it is in our own network", async () => {
    const socket = createSocket("udp4");
    await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
    const report = await ask(socket, SERVERS.slice(0, 2));
    const { port } = socket.address();
    socket.close();
    assert.deepEqual(report.mapped, [{ address: "127.0.0.1", port }]);
    assert.equal(report.mapping, "unknown");
    assert.ok(report.inside && report.portKept && !report.blocked);
  });

  test("coturn answers our request over IPv6", async () => {
    const socket = createSocket("udp6");
    await new Promise<void>((resolve) => socket.bind(0, "::1", resolve));
    const report = await ask(socket, SERVERS.slice(2));
    const { port } = socket.address();
    socket.close();
    assert.deepEqual(report.mapped, [{ address: "::1", port }]);
  });

  test("coturn's client reads our answers, and the endpoint in them is its own", async () => {
    const socket = createSocket("udp4");
    const clients = new Set<number>();
    socket.on("message", (datagram, { address, port }) => {
      const request = decodeStunRequest(datagram);
      if (request === undefined) return;
      clients.add(port);
      socket.send(encodeStunResponse(request, { address: parseIp(address), port }), port, address);
    });
    await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
    const { port } = socket.address();
    const { stdout } = await run("turnutils_stunclient", ["-p", String(port), "127.0.0.1"], { timeout: 60_000 });
    socket.close();
    const told = Number(/UDP reflexive addr: 127\.0\.0\.1:(\d+)/.exec(stdout)?.[1]);
    assert.ok(clients.has(told), stdout);
  });
});
