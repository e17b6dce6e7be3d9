import { connect, createServer, type Socket } from "node:net";

/** How many connections a member of the cluster hands on at once; one more is closed. */
const CONNECTIONS_MAX = 256;

/**
 * A TCP port whose connections are another process's, in another network namespace: bytes go to and from its Unix
 * socket unread. Ends with the signal.
 */
export async function handOn(options: {
  readonly address: string;
  readonly port: number;
  readonly socket: string;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { address, port, socket, signal } = options;
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ path: socket, allowHalfOpen: true });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, () => resolve());
  });
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  for (const one of open) one.destroy();
  await new Promise((resolve) => server.close(resolve));
}
