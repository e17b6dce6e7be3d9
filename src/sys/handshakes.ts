import type { Server, Socket } from "node:net";

/** TLS handshakes under way at a server at the same time; the kernel's queue and the clients' patience hold the rest. */
export const HANDSHAKES_MAX = 128;
/** A handshake that takes longer makes room for another. */
export const HANDSHAKE_PATIENCE_MS = 3_000;

/**
 * Bounds how many handshakes a TLS server works on at once. Ten thousand clients that come back together would
 * otherwise all be served a little, and every one of them would run out of time: so some are finished, and the others
 * are turned away before they cost anything and come again. Who begins a handshake and stays silent loses the place.
 */
export function boundHandshakes(server: Server, connectionsMax: number): void {
  const pending = new Map<Socket, number>();
  let secured = 0;
  const setLimit = (): void => {
    server.maxConnections = Math.min(connectionsMax, secured + HANDSHAKES_MAX);
  };
  server.on("connection", (socket: Socket) => {
    pending.set(socket, performance.now());
    socket.once("close", () => pending.delete(socket));
  });
  server.on("secureConnection", (socket: Socket) => {
    secured++;
    // The two sockets of one connection have nothing in common but the other end's port.
    for (const raw of pending.keys())
      if (raw.remotePort === socket.remotePort && raw.remoteAddress === socket.remoteAddress) {
        pending.delete(raw);
        break;
      }
    setLimit();
    socket.once("close", () => {
      secured--;
      setLimit();
    });
  });
  server.on("drop", () => {
    const [oldest] = pending;
    if (oldest !== undefined && performance.now() - oldest[1] > HANDSHAKE_PATIENCE_MS) oldest[0].destroy();
  });
  setLimit();
}
