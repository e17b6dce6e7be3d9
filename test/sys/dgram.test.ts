import assert from "node:assert/strict";
import { test } from "node:test";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";

const received = (socket: Awaited<ReturnType<typeof openDatagramSocket>>) =>
  new Promise<{ text: string; from: Endpoint }>((resolve) => {
    socket.onReceive = (datagram, from) => resolve({ text: Buffer.from(datagram).toString(), from });
  });

for (const address of ["127.0.0.1", "[::1]"])
  test(`a datagram arrives with its sender, over ${address}`, async () => {
    const [left, right] = [await openDatagramSocket(41_820), await openDatagramSocket(41_821)];
    // Sockets keep no process alive, and nothing else does here.
    const alive = setTimeout(() => undefined, 10_000);
    try {
      const arrived = received(right);
      left.send(parseEndpoint(`${address}:41821`), Buffer.from("hello"));
      assert.deepEqual(await arrived, { text: "hello", from: parseEndpoint(`${address}:41820`) });
    } finally {
      clearTimeout(alive);
      left.close();
      right.close();
    }
  });

test("a port that is taken is said to be, and a closed one is free again", async () => {
  const first = await openDatagramSocket(41_822);
  await assert.rejects(openDatagramSocket(41_822), { code: "port-taken" });
  first.close();
  (await openDatagramSocket(41_822)).close();
});
