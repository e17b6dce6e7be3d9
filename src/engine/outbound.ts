import type { Millis } from "../kit/time.js";
import type { Arena } from "../sys/arena.js";
import type { DatagramWriter } from "../sys/datagrams.js";
import type { Libc } from "../sys/libc.js";
import type { Remote, Remotes } from "../sys/sockaddr.js";
import { PADDING_BYTES } from "../wireguard/constants.js";
import type { Device, Effect } from "../wireguard/device.js";
import type { Keypair } from "../wireguard/keypairs.js";
import { TRANSPORT_BYTES_MIN, TRANSPORT_HEADER_BYTES, TYPE_TRANSPORT } from "../wireguard/messages.js";
import type { ArenaAead } from "./arenaaead.js";
import { PROTOCOL_UDP, type Sum } from "./checksums.js";
import { Cutter } from "./cutter.js";
import { ecnOf } from "./ecn.js";
import { MessageRun, RUN_ARENA_BYTES, RUN_MESSAGES_MAX } from "./messagerun.js";
import { VNET_HEADER_BYTES } from "./vnetheader.js";

/** What one read from the TUN device takes. */
export const PIECE_BYTES_MAX = 65_536;
export const OUTBOUND_ARENA_BYTES = 2 * PIECE_BYTES_MAX + RUN_ARENA_BYTES + 64;
/** Packets sealed per turn: no direction waits long for the other. */
const PACKETS_MAX = 512;

export type OutboundParts = {
  readonly libc: Libc;
  readonly arena: Arena;
  readonly sum: Sum;
  readonly aead: ArenaAead;
  readonly device: Device;
  readonly remotes: Remotes;
  /** The writer for a remote's family. */
  writerFor(remote: Remote): DatagramWriter;
  run(effects: readonly Effect[]): void;
  /** Sends what the writers hold. */
  flush(): void;
};

/** From the TUN device to the sockets: packets are cut, sealed where they will be sent from, and sent in runs. */
export class Outbound {
  mtu = 0;
  /** Packets for a peer's own outer endpoint: sealed, they would come back here without end. */
  looped = 0;
  /** Where pieces are read to. */
  readonly piece: number;
  readonly #parts: OutboundParts;
  readonly #cutter: Cutter;
  readonly #run: MessageRun;
  readonly #scratch: number;

  constructor(parts: OutboundParts) {
    this.#parts = parts;
    this.#cutter = new Cutter(parts.arena, parts.sum);
    this.#run = new MessageRun(parts.arena);
    this.piece = parts.arena.take(PIECE_BYTES_MAX);
    this.#scratch = parts.arena.take(PIECE_BYTES_MAX);
  }

  /**
   * Reads until nothing waits, or enough was done for one turn. `rested`: nothing came for a while, so the first is
   * probably alone, and does not wait until it is known. `ahead`: bytes that were read already, to `piece`.
   */
  read(tunFd: number, now: Millis, rested: boolean, ahead = 0): void {
    const { libc, arena } = this.#parts;
    let got = ahead;
    for (let packets = 0; packets < PACKETS_MAX; got = 0) {
      if (got === 0) got = libc.read(tunFd, arena.base + this.piece, PIECE_BYTES_MAX);
      const length = got - VNET_HEADER_BYTES;
      if (length <= 0) return;
      packets += this.#send(this.piece + VNET_HEADER_BYTES, length, now, rested && packets === 0);
    }
  }

  /** Seals the piece, and sends it `atOnce`; returns how many packets it was. */
  #send(at: number, length: number, now: Millis, atOnce: boolean): number {
    const { arena, device, remotes, run, flush } = this.#parts;
    if (!this.#cutter.take(this.piece, at, length)) {
      device.counters.packetMalformed++;
      return 1;
    }
    const { count } = this.#cutter;
    const six = (arena.bytes[at] ?? 0) >> 4 === 6;
    const peer = length < 20 ? undefined : device.route(arena.bytes, at + (six ? 24 : 16), six ? 6 : 4);
    const keypair = peer?.outlet(now);
    if (peer?.endpoint === undefined || keypair === undefined) {
      this.#sendSlowly(now);
      return count;
    }
    const remote = remotes.of(peer.endpoint);
    if (this.#loops(at, length, remote)) {
      this.looped++;
      return count;
    }
    const sent = this.#seal(keypair, remote, ecnOf(arena.bytes, at));
    if (atOnce) flush();
    run(device.sealed(peer, keypair, sent, now));
    return count;
  }

  /** Seals every packet of the piece in the writer's region and commits it; returns the bytes sent. */
  #seal(keypair: Keypair, remote: Remote, ecn: number): number {
    const { arena, aead, writerFor } = this.#parts;
    const { bytes, view } = arena;
    const writer = writerFor(remote);
    const cutter = this.#cutter;
    const run = this.#run;
    let sent = 0;
    for (let i = 0; i < cutter.count; ) {
      const last = Math.min(i + RUN_MESSAGES_MAX, cutter.count);
      let message = writer.reserve((last - i) * (cutter.bytesMax + TRANSPORT_BYTES_MIN + PADDING_BYTES));
      run.clear();
      for (; i < last; i++) {
        const plain = message + TRANSPORT_HEADER_BYTES;
        const length = cutter.write(i, plain);
        // §5.4.6: padded, but not past the tunnel's MTU.
        const padded = Math.min((length + PADDING_BYTES - 1) & -PADDING_BYTES, Math.max(length, this.mtu));
        for (let j = length; j < padded; j++) bytes[plain + j] = 0;
        view.setUint32(message, TYPE_TRANSPORT, true);
        view.setUint32(message + 4, keypair.remoteIndex, true);
        view.setUint32(message + 8, keypair.counterLow, true);
        view.setUint32(message + 12, keypair.counterHigh, true);
        run.add(plain, padded, keypair.counterHigh, keypair.counterLow);
        keypair.advance();
        message += TRANSPORT_BYTES_MIN + padded;
      }
      aead.seal(keypair.sendKey, run);
      for (let j = 0; j < run.count; j++) {
        const size = TRANSPORT_BYTES_MIN + run.length(j);
        writer.commit(remote, run.at(j) - TRANSPORT_HEADER_BYTES, size, ecn);
        sent += size;
      }
    }
    return sent;
  }

  /** Without a session the protocol keeps the packets (it copies them), or says why not. */
  #sendSlowly(now: Millis): void {
    const { arena, device, run } = this.#parts;
    for (let i = 0; i < this.#cutter.count; i++) {
      const length = this.#cutter.write(i, this.#scratch);
      run(device.send(arena.bytes.subarray(this.#scratch, this.#scratch + length), now));
    }
  }

  #loops(at: number, length: number, remote: Remote): boolean {
    const { bytes, view } = this.#parts.arena;
    const six = (bytes[at] ?? 0) >> 4 === 6;
    if (six !== (remote.family === 6) || bytes[at + (six ? 6 : 9)] !== PROTOCOL_UDP) return false;
    const transport = six ? 40 : (view.getUint8(at) & 15) * 4;
    if (length < transport + 8 || view.getUint16(at + transport + 2) !== remote.port) return false;
    const { sockaddr } = remote;
    const [to, from, size] = six ? [at + 24, 8, 16] : [at + 16, 4, 4];
    for (let i = 0; i < size; i++) if (bytes[to + i] !== sockaddr[from + i]) return false;
    return true;
  }
}
