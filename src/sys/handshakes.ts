import type { Server, Socket } from "node:net";

export type HandshakeLimits = typeof HANDSHAKE_LIMITS;
export const HANDSHAKE_LIMITS = {
  /** Connections whose handshake has not begun, some KB each; of those that say nothing the oldest makes room. */
  waitingMax: 2_048,
  silentMs: 10_000,
  /** TLS handshakes under way; one that takes longer than its patience makes room for one that waits. */
  pendingMax: 512,
  patienceMs: 8_000,
  /** Handshakes begun in one turn of the event loop: what is under way has its turn too. */
  beginMax: 8,
  /** Who has waited for so long is about to give up (a device does after CONTROL_LIMITS.handshakeTimeoutMs), and is not begun with. */
  waitMs: 25_000,
};

/**
 * Puts the TLS handshakes of a server in a queue. Ten thousand clients that come back together would otherwise all be
 * served a little, and every one of them would run out of time. Whoever has said hello waits for its turn, at some KB
 * each, and has cost nothing until then; whoever says nothing holds nobody up.
 */
export function queueHandshakes(
  server: Server,
  connectionsMax: number,
  { waitingMax, silentMs, pendingMax, patienceMs, beginMax, waitMs }: HandshakeLimits = HANDSHAKE_LIMITS,
): void {
  const begin = server.listeners("connection") as ((socket: Socket) => void)[];
  server.removeAllListeners("connection");
  let open = 0;
  const silent = new Set<Socket>();
  /** With the time at which each came to that stage, the oldest first. */
  const waiting = new Map<Socket, number>();
  const pending = new Map<Socket, number>();
  /** Of those that are pending: the two sockets of one connection have nothing in common but the other end's address. */
  const byRemote = new Map<string, Socket>();
  let turn: NodeJS.Immediate | undefined;
  let timer: NodeJS.Timeout | undefined;

  const work = (): void => {
    turn = undefined;
    clearTimeout(timer);
    const now = performance.now();
    let begun = 0;
    for (const [socket, since] of waiting) {
      if (begun === beginMax || pending.size >= pendingMax) break;
      waiting.delete(socket);
      if (now - since >= waitMs) {
        socket.destroy();
        continue;
      }
      begun++;
      pending.set(socket, now);
      byRemote.set(remoteOf(socket), socket);
      for (const listener of begin) listener.call(server, socket);
    }
    if (waiting.size === 0) return;
    const [oldest] = pending;
    const leftMs = oldest === undefined ? 0 : oldest[1] + patienceMs - now;
    if (pending.size < pendingMax) workSoon();
    // Its end calls back here.
    else if (leftMs <= 0) oldest?.[0].destroy();
    else timer = setTimeout(work, leftMs).unref();
  };
  function workSoon(): void {
    turn ??= setImmediate(work);
  }
  const settle = (socket: Socket | undefined, remote: string): void => {
    if (socket === undefined || !pending.delete(socket)) return;
    if (byRemote.get(remote) === socket) byRemote.delete(remote);
    if (waiting.size > 0) workSoon();
  };
  server.on("connection", (socket: Socket) => {
    const remote = remoteOf(socket);
    silent.add(socket);
    open++;
    const broken = (): void => void socket.destroy();
    // What it says stays where it is, for TLS to read.
    const heard = (): void => {
      if (!silent.delete(socket)) return;
      socket.off("readable", heard);
      socket.off("error", broken);
      socket.off("timeout", broken);
      socket.setTimeout(0);
      waiting.set(socket, performance.now());
      workSoon();
    };
    socket.on("readable", heard);
    socket.on("error", broken);
    socket.setTimeout(silentMs, broken);
    socket.once("close", () => {
      open--;
      silent.delete(socket);
      waiting.delete(socket);
      settle(socket, remote);
    });
    const [oldest] = silent;
    // It may be this very one: then it is turned away, and comes again.
    if (open > connectionsMax || silent.size + waiting.size > waitingMax) oldest?.destroy();
  });
  server.on("secureConnection", (socket: Socket) => {
    const remote = remoteOf(socket);
    settle(byRemote.get(remote), remote);
  });
  server.on("close", () => {
    clearTimeout(timer);
    clearImmediate(turn);
  });
}

const remoteOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
