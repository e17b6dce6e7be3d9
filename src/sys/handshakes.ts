import type { Server, Socket } from "node:net";
import { Places } from "../kit/places.js";

export type HandshakeLimits = typeof HANDSHAKE_LIMITS;
export const HANDSHAKE_LIMITS = {
  /** Connections that have said nothing, and connections that wait for their turn, some KB each. */
  waitingMax: 2_048,
  silentMs: 10_000,
  /** Handshakes under way. */
  pendingMax: 512,
  /** For one handshake; then it is cut. */
  patienceMs: 10_000,
  /** Handshakes begun in one turn of the event loop: what is under way has its turn too. */
  beginMax: 8,
  /** Who has waited for so long is about to give up (a device does after CONTROL_LIMITS.handshakeTimeoutMs), and is not begun with. */
  waitMs: 25_000,
};

/**
 * Puts the TLS handshakes of a server in a queue. Ten thousand clients that come back together would otherwise all be
 * served a little, and every one of them would run out of time. Whoever has said hello waits for its turn, at some KB
 * each, and has cost nothing until then; whoever says nothing holds nobody up. Neighbourhoods take turns, and none has
 * more handshakes under way than there are places left: one alone has half of them, and who comes from elsewhere begins
 * at once, however many of the others never go on.
 *
 * Returns what is to be told of a connection whose handshake is over, by either of its sockets.
 */
export function queueHandshakes(
  server: Server,
  connectionsMax: number,
  { waitingMax, silentMs, pendingMax, patienceMs, beginMax, waitMs }: HandshakeLimits = HANDSHAKE_LIMITS,
): (socket: Socket) => void {
  const begin = server.listeners("connection") as ((socket: Socket) => void)[];
  server.removeAllListeners("connection");
  let open = 0;
  const silent = new Places<Socket>(waitingMax);
  const waiting = new Places<Socket>(waitingMax);
  const pending = new Places<Socket>(pendingMax);
  /** When each of those that wait said hello, and each of those under way was begun. */
  const since = new Map<Socket, number>();
  /** Of those that are pending: the two sockets of one connection have nothing in common but the other end's address. */
  const byRemote = new Map<string, Socket>();
  let turn: NodeJS.Immediate | undefined;
  let timer: NodeJS.Timeout | undefined;

  const mayBegin = (holder: string): boolean => pending.heldBy(holder) < pendingMax - pending.size;
  const work = (): void => {
    turn = undefined;
    const now = performance.now();
    const ageOf = (socket: Socket): number => now - (since.get(socket) ?? now);
    let begun = 0;
    while (begun < beginMax) {
      const socket = waiting.next(mayBegin);
      if (socket === undefined) break;
      if (socket.destroyed || ageOf(socket) >= waitMs) {
        socket.destroy();
        continue;
      }
      begun++;
      since.set(socket, now);
      pending.enter(socket, socket.remoteAddress ?? "");
      byRemote.set(remoteOf(socket), socket);
      socket.off("error", destroyThis);
      for (const listener of begin) listener.call(server, socket);
    }
    if (begun === beginMax) workSoon();
    clearTimeout(timer);
    for (const oldest of pending) {
      const leftMs = patienceMs - ageOf(oldest);
      if (leftMs > 0) {
        timer = setTimeout(work, leftMs).unref();
        break;
      }
      oldest.destroy(); // its end calls back here
    }
  };
  function workSoon(): void {
    turn ??= setImmediate(work);
  }
  const settle = (socket: Socket): void => {
    if (!pending.leave(socket)) return;
    since.delete(socket);
    const remote = remoteOf(socket);
    if (byRemote.get(remote) === socket) byRemote.delete(remote);
    if (waiting.size > 0) workSoon();
  };
  // What it says stays where it is, for TLS to read.
  function heard(this: Socket): void {
    if (!silent.leave(this)) return;
    this.off("readable", heard);
    this.setTimeout(0, destroyThis);
    since.set(this, performance.now());
    waiting.enter(this, this.remoteAddress ?? "")?.destroy();
    workSoon();
  }
  function closed(this: Socket): void {
    open--;
    silent.leave(this);
    waiting.leave(this);
    settle(this);
    since.delete(this);
  }
  // No function is made for one connection: what is kept of it is kept for its life, and most are idle.
  server.on("connection", (socket: Socket) => {
    open++;
    socket.on("readable", heard);
    socket.on("error", destroyThis);
    socket.setTimeout(silentMs, destroyThis);
    socket.on("close", closed);
    silent.enter(socket, socket.remoteAddress ?? "")?.destroy();
    // It may be this very one: then it is turned away, and comes again.
    if (open > connectionsMax) (silent.size < waiting.size ? waiting : silent).evict()?.destroy();
  });
  server.on("close", () => {
    clearTimeout(timer);
    clearImmediate(turn);
  });
  return (socket) => settle(byRemote.get(remoteOf(socket)) ?? socket);
}

function destroyThis(this: Socket): void {
  this.destroy();
}

const remoteOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
