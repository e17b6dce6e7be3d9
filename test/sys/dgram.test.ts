import assert from "node:assert/strict";
import { test } from "node:test";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";
import { freePort } from "../coordinator/freeport.js";

const received = (socket: Awaited<ReturnType<typeof openDatagramSocket>>) =>
  new Promise<{ text: string; from: Endpoint }>((resolve) => {
    socket.onReceive = (datagram, from) => resolve({ text: Buffer.from(datagram).toString(), from });
  });

for (const address of ["127.0.0.1", "[::1]"])
  test(`a datagram arrives with its sender, over ${address}`, async () => {
    const [left, right] = [await openDatagramSocket(await freePort()), await openDatagramSocket(await freePort())];
    // Sockets keep no process alive, and nothing else does here.
    const alive = setTimeout(() => undefined, 60_000);
    try {
      const arrived = received(right);
      left.send(parseEndpoint(`${address}:${right.port}`), Buffer.from("hello"));
      assert.deepEqual(await arrived, { text: "hello", from: parseEndpoint(`${address}:${left.port}`) });
    } finally {
      clearTimeout(alive);
      left.close();
      right.close();
    }
  });

test("a port that is taken is said to be, and a closed one is free again", async () => {
  const port = await freePort();
  const first = await openDatagramSocket(port);
  await assert.rejects(openDatagramSocket(port), { code: "port-taken" });
  first.close();
  (await openDatagramSocket(port)).close();
});
