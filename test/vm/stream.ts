import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { Millis } from "../../src/kit/time.js";
import { insidePlace } from "../engine/insideplace.js";
import type { Place } from "../engine/places.js";

const PORT = 7_777;
const MEGABYTE = 1_048_576;

/** Sends so much over one TCP connection, by sockets of this process; what arrived is what was sent, or it fails. */
export async function stream(
  from: Place,
  to: Place,
  address: string,
  megabytes: number,
  deadlineMs: Millis,
): Promise<Millis> {
  const signal = AbortSignal.timeout(deadlineMs);
  const server = await insidePlace(to, async () => {
    const listening = createServer().listen(PORT, address);
    await once(listening, "listening", { signal });
    return listening;
  });
  const accepted = once(server, "connection", { signal });
  const client = await insidePlace(from, async () => {
    const connecting = connect(PORT, address);
    await once(connecting, "connect", { signal });
    return connecting;
  });
  try {
    const [arriving] = await accepted;
    const began = performance.now();
    const sent = randomBytes(megabytes * MEGABYTE);
    const arrived = createHash("sha256");
    arriving.on("data", (chunk: Uint8Array) => arrived.update(chunk));
    client.end(sent);
    await once(arriving, "end", { signal });
    assert.equal(arrived.digest("hex"), createHash("sha256").update(sent).digest("hex"));
    arriving.destroy();
    return performance.now() - began;
  } finally {
    client.destroy();
    server.close();
  }
}
